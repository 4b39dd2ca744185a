/** A task that was finished before and whose sources are all remote, taken as it is: no server is asked, no shard is read. */
import { join } from 'node:path';
import { readIfThere, statIfThere } from '../../shared/atomic-file.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { MANIFEST_FILE, parseTaskManifest, serializeTaskManifest, type TaskManifest } from './manifest.ts';
import { filesOf } from './shard-entry.ts';

/**
 * @param declared hash of what the mixture declares of it (hashDeclared)
 * @returns undefined where there is none, it was made from another declaration, or a shard is missing or of another size
 * @throws PATH_UNUSABLE
 */
export async function findFinishedTask(
  outDir: string,
  name: string,
  declared: string,
): Promise<TaskManifest | undefined> {
  const folder = join(outDir, name);
  const path = join(folder, MANIFEST_FILE);
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  let manifest: TaskManifest;
  try {
    manifest = parseTaskManifest(text, path);
  } catch (error) {
    if (toTrainerError(error).code === 'SHARD_CORRUPT') return undefined; // damaged: planned and made again
    throw error;
  }
  if (manifest.name !== name || manifest.declared !== declared || serializeTaskManifest(manifest) !== text)
    return undefined;
  for (const { file, bytes } of manifest.shards.flatMap(filesOf)) {
    const found = await statIfThere(join(folder, file));
    if (found?.size !== bytes) return undefined;
  }
  return manifest;
}
