/**
 * Source → names, sizes and versions of all its files. A file of the mixture may be a folder or a glob. No record is
 * read.
 */
import { stat } from 'node:fs/promises';
import { TrainerError } from '../../shared/errors.ts';
import { isLocalLocation, nameLocation } from '../../shared/storage/location.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import type { FilesSource, SourceFile, SourceSpec } from '../tasks/task.ts';
import { hashLocalFile } from './file-hashes.ts';
import { createGlob, globFolder, isGlob } from './glob.ts';
import { resolveHub } from './hub/resolve-hub.ts';
import type { ResolvedFile, ResolvedSource } from './resolved-source.ts';
import type { SourceAccess } from './source-access.ts';
import { unreadable } from './source-file.ts';

/**
 * @throws SOURCE_UNREADABLE with all files that are missing or unreadable; NAME_UNKNOWN (data set, revision,
 * configuration, split or file of a hub); STORAGE_DENIED, STORAGE_UNAVAILABLE; CONFIG_INVALID; ABORTED
 */
export async function resolveSource(
  source: SourceSpec,
  access: SourceAccess,
  signal?: AbortSignal,
): Promise<ResolvedSource> {
  return source.kind === 'hub' ? resolveHub(source, access, signal) : resolveFiles(source, access, signal);
}

async function resolveFiles(
  { format, quotes, files }: FilesSource,
  access: SourceAccess,
  signal: AbortSignal | undefined,
): Promise<ResolvedSource> {
  const resolved: ResolvedFile[] = [];
  const problems: TrainerError[] = [];
  for (const file of files) {
    try {
      for await (const found of expandFile(file, access, signal))
        resolved.push(await resolveFile(found, access, signal));
    } catch (thrown) {
      const error = unreadable(file.name, thrown);
      if (error.code === 'ABORTED') throw error;
      problems.push(error);
    }
  }
  throwAll(problems);
  return { format, quotes, files: resolved };
}

/**
 * The files that an entry of the mixture names. A local or s3: location means many files if it ends with `/`, is a
 * local folder, or contains `*`, `?` or `{a,b}`. They come in byte order of their names. Of a folder, hidden files are
 * left out (`.name`, and `_name` as Hadoop's tools write).
 * @throws STORAGE_NOT_FOUND if no file matches; as Storage.list
 */
async function* expandFile(
  { name, location }: SourceFile,
  { storage }: SourceAccess,
  signal?: AbortSignal,
): AsyncGenerator<SourceFile> {
  const isLocal = isLocalLocation(location);
  const isListed = isLocal || location.startsWith('s3:');
  const isFolder = isListed && (location.endsWith('/') || (isLocal && (await isLocalFolder(location))));
  if (!isListed || (!isFolder && (!isGlob(location) || (isLocal && (await isThere(location)))))) {
    yield { name, location };
    return;
  }
  const isPath = isLocal && !isFolder;
  const root = isFolder
    ? location.replace(/\/$/u, '')
    : isPath
      ? await localGlobFolder(location)
      : globFolder(location);
  const pattern = location.slice(root.length + 1);
  if (isPath && !isGlob(pattern)) {
    yield { name, location };
    return;
  }
  const matches = isFolder ? isVisible : createGlob(pattern);
  const numLevels = pattern.split('/').length;
  const nameRoot = isFolder ? name.replace(/\/$/u, '') : name.split('/').slice(0, -numLevels).join('/');
  const prefix = isFolder ? '' : pattern.slice(0, pattern.search(/[*?{]/u));
  let numFound = 0;
  for await (const { key } of openStorage(root === '' && isLocal ? '/' : root, storage).list(prefix, signal)) {
    if (!matches(key)) continue;
    numFound += 1;
    yield { name: nameRoot === '' ? key : `${nameRoot}/${key}`, location: `${root}/${key}` };
  }
  if (numFound === 0)
    throw new TrainerError(
      'STORAGE_NOT_FOUND',
      `${nameLocation(location)}: ${isFolder ? 'the folder has no files' : 'no file matches'}`,
    );
}

function isVisible(key: string): boolean {
  return !key.split('/').some((part) => part.startsWith('.') || part.startsWith('_'));
}

async function isLocalFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

/** The longest folder at the start of a path that exists. A folder may have `?` or `{}` in its name. */
async function localGlobFolder(path: string): Promise<string> {
  const parts = path.split('/');
  for (let numParts = 1; numParts < parts.length; numParts++)
    if (!(await isLocalFolder(`${parts.slice(0, numParts).join('/')}/`))) return parts.slice(0, numParts - 1).join('/');
  return parts.slice(0, -1).join('/');
}

/** A file may have a star in its name, so an existing path is not a glob. */
async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function resolveFile(
  { name, location }: SourceFile,
  access: SourceAccess,
  signal: AbortSignal | undefined,
): Promise<ResolvedFile> {
  const { bytes, version: storageVersion } = await openStorage(location, access.storage).head('', signal);
  const version = isLocalLocation(location)
    ? await hashLocalFile(location, storageVersion, access.cacheFolder, signal)
    : storageVersion;
  return { name, location, bytes, version, storageVersion };
}

/** Throws a single problem as it is, and several as one error with the code of the first and all messages. */
function throwAll(problems: readonly TrainerError[]): void {
  const [first] = problems;
  if (first === undefined) return;
  if (problems.length === 1) throw first;
  throw new TrainerError(first.code, [...new Set(problems.map(({ message }) => message))].join('\n'), {
    cause: problems,
  });
}
