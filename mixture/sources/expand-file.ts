/** A file as a mixture names it → the files it means: itself, all that a glob matches, or all of a folder. */
import { stat } from 'node:fs/promises';
import { TrainerError } from '../../shared/errors.ts';
import { isLocalLocation } from '../../shared/storage/location.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import type { SourceFile } from '../tasks/task.ts';
import { createGlob, globFolder, isGlob } from './glob.ts';
import type { SourceAccess } from './source-access.ts';

/**
 * A local or s3: location that ends with `/`, is a local folder, or holds `*`, `?` or `{a,b}` behind its scheme stands for many
 * files, in the order of their names' bytes; hidden ones (`.name`, `_name`, as the tools of Hadoop hide theirs) are left out of folders.
 * @throws STORAGE_NOT_FOUND where none matches; as Storage.list
 */
export async function* expandFile(
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
  const root = isFolder ? location.replace(/\/$/u, '') : globFolder(location);
  const pattern = location.slice(root.length + 1);
  const matches = isFolder ? isVisible : createGlob(pattern);
  const nameRoot = isFolder ? name.replace(/\/$/u, '') : globFolder(name);
  const prefix = isFolder ? '' : pattern.slice(0, pattern.search(/[*?{]/u));
  let numFound = 0;
  for await (const { key } of openStorage(root, storage).list(prefix, signal)) {
    if (!matches(key)) continue;
    numFound += 1;
    yield { name: nameRoot === '' ? key : `${nameRoot}/${key}`, location: `${root}/${key}` };
  }
  if (numFound === 0)
    throw new TrainerError(
      'STORAGE_NOT_FOUND',
      `${location}: ${isFolder ? 'the folder has no files' : 'no file matches'}`,
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

/** A file may have a star in its name. */
async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
