/**
 * `coordinator.json` in the run folder: workers, `exmix status` and the next coordinator find address and token of the run there.
 *
 * A run folder may be a stranger's, and then its token is one that the stranger knows. The next coordinator takes the token over only if the
 * file has a seal of this user's exmix for this folder (shared/home-secret.ts).
 */
import { realpath } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { replaceFile } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { isSealOf, sealOf } from '../../shared/home-secret.ts';
import { readIfThere } from '../../shared/small-file.ts';

const ANNOUNCEMENT_FILE = 'coordinator.json';

const announcementSchema = z.object({
  url: z.string().refine((url) => URL.canParse(url), 'expected a URL'),
  token: z.string(),
  seal: z.string().optional(),
});

export interface CoordinatorAddress {
  readonly url: string;
  readonly token: string;
}

/** Only the owner of the file may read the token. @throws DISK_FULL, PATH_UNUSABLE */
export async function announceCoordinator(
  runFolder: string,
  { url, token, epoch }: CoordinatorAddress & { readonly epoch: number },
): Promise<void> {
  // Without a home that can be written there is no seal: the next coordinator then makes a new token.
  const seal = await sealOf(await sealed(runFolder, { url, token })).catch(() => undefined);
  const text = JSON.stringify({ url, token, pid: process.pid, epoch, seal }, undefined, 2);
  await replaceFile(join(runFolder, ANNOUNCEMENT_FILE), `${text}\n`, 0o600);
}

/** @returns undefined where no coordinator was ever announced @throws PATH_UNUSABLE, also for a file that exmix did not write */
export async function readAnnouncement(runFolder: string): Promise<CoordinatorAddress | undefined> {
  return readFile(runFolder);
}

/** The announcement, if exmix of this user made it for this folder. @throws PATH_UNUSABLE */
export async function readOwnAnnouncement(runFolder: string): Promise<CoordinatorAddress | undefined> {
  const found = await readFile(runFolder);
  if (found?.seal === undefined) return undefined;
  return (await isSealOf(found.seal, await sealed(runFolder, found))) ? found : undefined;
}

async function readFile(runFolder: string): Promise<z.output<typeof announcementSchema> | undefined> {
  const path = join(runFolder, ANNOUNCEMENT_FILE);
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    return announcementSchema.parse(JSON.parse(text));
  } catch (error) {
    const message = `${path}: expected the address and token of a coordinator; remove the file`;
    throw new TrainerError('PATH_UNUSABLE', message, { cause: error });
  }
}

async function sealed(runFolder: string, { url, token }: CoordinatorAddress): Promise<readonly string[]> {
  return [ANNOUNCEMENT_FILE, await realpath(runFolder), url, token];
}
