/** Carries out the retention plan. A checkpoint that is deleted vanishes by a rename, so no reader sees half of one. */
import { rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncFolder, toStorageError } from '../../shared/atomic-file.ts';
import { removingName } from '../../shared/checkpoint/layout.ts';
import { listCheckpointFolders } from '../../shared/checkpoint/read.ts';
import { verifyCheckpoint } from '../../shared/checkpoint/verify.ts';
import { planRetention, type RetentionEntry, type RetentionOptions } from './retention.ts';

/**
 * Deletes what retention does not keep. Folders that are not whole (by names and sizes) are neither counted nor touched.
 * @param inUse step → why it must stay
 * @returns what was deleted, and why @throws PATH_UNUSABLE
 */
export async function pruneCheckpoints(
  checkpointsFolder: string,
  options: RetentionOptions,
  inUse: ReadonlyMap<number, string>,
): Promise<readonly RetentionEntry[]> {
  const paths = new Map<number, string>();
  for (const { path, step } of await listCheckpointFolders(checkpointsFolder)) {
    const { problems } = await verifyCheckpoint(path, { depth: 'size' });
    if (problems.length === 0) paths.set(step, path);
  }
  const { remove } = planRetention([...paths.keys()], options, inUse);
  for (const { step } of remove) {
    const path = paths.get(step)!;
    const aside = join(dirname(path), removingName(step));
    try {
      await rm(aside, { recursive: true, force: true });
      await rename(path, aside);
      await syncFolder(dirname(path));
      await rm(aside, { recursive: true, force: true });
    } catch (error) {
      throw toStorageError(error, 'remove', path);
    }
  }
  return remove;
}
