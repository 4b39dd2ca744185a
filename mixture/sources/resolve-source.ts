/** Source → names, sizes and versions of all its files. No record is read. */
import { TrainerError } from '../../shared/errors.ts';
import { isLocalLocation } from '../../shared/storage/location.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import type { FilesSource, SourceFile, SourceSpec } from '../tasks/task.ts';
import { expandFile } from './expand-file.ts';
import { hashLocalFile } from './file-hashes.ts';
import { resolveHub } from './hub/resolve-hub.ts';
import type { ResolvedFile, ResolvedSource } from './resolved-source.ts';
import type { SourceAccess } from './source-access.ts';
import { unreadable } from './source-file.ts';

/**
 * @throws SOURCE_UNREADABLE naming all files that are missing or cannot be read; NAME_UNKNOWN (data set, revision, configuration,
 *   split or file of a hub); STORAGE_DENIED, STORAGE_UNAVAILABLE; CONFIG_INVALID; ABORTED
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

/** One problem as it is; several as one error of the first one's code that tells all. */
function throwAll(problems: readonly TrainerError[]): void {
  const [first] = problems;
  if (first === undefined) return;
  if (problems.length === 1) throw first;
  throw new TrainerError(first.code, [...new Set(problems.map(({ message }) => message))].join('\n'), {
    cause: problems,
  });
}
