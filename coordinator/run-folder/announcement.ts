/** `coordinator.json` in the run folder: workers, `exmix status` and the next coordinator find address and token of the run there. */
import { join } from 'node:path';
import { z } from 'zod';
import { replaceFile } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { readIfThere } from '../../shared/small-file.ts';

const ANNOUNCEMENT_FILE = 'coordinator.json';

const announcementSchema = z.object({ url: z.string(), token: z.string() });

export type CoordinatorAddress = z.output<typeof announcementSchema>;

/** Only the owner of the file may read the token. @throws DISK_FULL, PATH_UNUSABLE */
export async function announceCoordinator(
  runFolder: string,
  { url, token, epoch }: CoordinatorAddress & { readonly epoch: number },
): Promise<void> {
  const text = JSON.stringify({ url, token, pid: process.pid, epoch }, undefined, 2);
  await replaceFile(join(runFolder, ANNOUNCEMENT_FILE), `${text}\n`, 0o600);
}

/** @returns undefined where no coordinator was ever announced @throws PATH_UNUSABLE, also for a file that exmix did not write */
export async function readAnnouncement(runFolder: string): Promise<CoordinatorAddress | undefined> {
  const path = join(runFolder, ANNOUNCEMENT_FILE);
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    return announcementSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new TrainerError(
      'PATH_UNUSABLE',
      `${path}: expected the address and token of a coordinator; remove the file`,
      {
        cause: error,
      },
    );
  }
}
