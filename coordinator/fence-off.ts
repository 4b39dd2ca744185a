/**
 * A lock that was taken over: its owner may only have been frozen, with journal and ledger open. From here on it writes to files without a
 * name.
 */
import { disownFile } from '../shared/atomic-file.ts';
import { listSegments } from './ledger/segment-files.ts';
import type { RunPaths } from './run-folder.ts';

/** @throws PATH_UNUSABLE, DISK_FULL */
export async function fenceOff({ journal, ledger }: RunPaths): Promise<void> {
  // In this order: a step comes into the ledger before it is committed, so no commit is without its step, whenever the owner wakes.
  await disownFile(journal);
  const newest = (await listSegments(ledger)).at(-1);
  if (newest !== undefined) await disownFile(newest.path);
}
