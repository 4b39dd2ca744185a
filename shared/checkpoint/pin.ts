/**
 * Pins a published checkpoint: a reader keeps it whole while retention removes it.
 *
 * A pin is a folder of hard links to the files of the checkpoint, `.partial-…/step-<n>` beside it (partial-folders.ts). Files of a published
 * checkpoint never change, so the links are the checkpoint; they take no space until the checkpoint is removed. Retention and pins need no lock:
 * whichever comes first wins whole. The pin of a process that ended is removed by the next reader or by retention.
 *
 * Assumes hard links, as the lock of a run folder does, and a user who may link the files.
 */
import { link, mkdir, readdir, utimes } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemCode, toStorageError } from '../atomic-file.ts';
import { dropPartialFolder, makePartialFolder } from '../partial-folders.ts';

/** A pin that hosts cannot prove to be in use counts as abandoned after a day without a change; it is renewed this often, ms. */
const RENEW_MS = 3_600_000;

export interface CheckpointPin {
  /** The checkpoint under its own name `step-<n>`. */
  readonly folder: string;
  /** Removes the links. */
  release(): Promise<void>;
}

/** @returns undefined where the checkpoint is gone @throws PATH_UNUSABLE, DISK_FULL */
export async function pinCheckpoint(path: string): Promise<CheckpointPin | undefined> {
  const parent = await makePartialFolder(dirname(path), 'pin');
  try {
    const folder = join(parent, basename(path));
    await mkdir(folder);
    for (const file of await readdir(path)) await link(join(path, file), join(folder, file));
    const timer = setInterval(() => {
      const now = new Date();
      void utimes(parent, now, now).catch(() => undefined); // it has a day
    }, RENEW_MS);
    timer.unref();
    return {
      folder,
      async release() {
        clearInterval(timer);
        await dropPartialFolder(parent);
      },
    };
  } catch (error) {
    await dropPartialFolder(parent);
    if (systemCode(error) === 'ENOENT') return undefined;
    throw toStorageError(error, 'link the files of', path);
  }
}
