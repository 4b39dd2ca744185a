/**
 * Unfinished folders, named by place and process: any number of processes can work in one parent folder, and the folders of a killed
 * process can be recognised. This process cannot know whether processes of other places (hosts, containers) are alive: their folders stay
 * until nothing in them has changed for a day.
 */
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode, toStorageError } from './atomic-file.ts';
import { isAlive } from './process-identity.ts';
import { ownFileTag, placeTag } from './process-place.ts';

const PREFIX = '.partial-';
/** A folder of another place in which nothing has changed for so long is abandoned, ms. */
const ABANDONED_AFTER_MS = 24 * 3_600_000;

/** Paths of this process's folders: after a restart of a container, a process id can be used again. */
const ours = new Set<string>();
let numMade = 0;

/** A new, empty folder in `parent`, to be renamed or removed. @throws PATH_UNUSABLE, DISK_FULL */
export async function makePartialFolder(parent: string, name: string): Promise<string> {
  const path = join(parent, `${PREFIX}${ownFileTag()}-${numMade++}-${name}`);
  ours.add(path);
  try {
    await mkdir(path);
  } catch (error) {
    ours.delete(path);
    throw toStorageError(error, 'create', path);
  }
  return path;
}

/** Removes a folder; does nothing on disk if it was renamed. */
export async function dropPartialFolder(path: string): Promise<void> {
  ours.delete(path);
  await rm(path, { recursive: true, force: true });
}

/** Removes the folders in `parent` whose process has ended. @param nowMs wall-clock time, ms since 1970 @throws PATH_UNUSABLE */
export async function removeAbandoned(parent: string, nowMs = Date.now()): Promise<void> {
  const prefix = `${PREFIX}${placeTag()}-`;
  try {
    for (const name of await readdir(parent)) {
      if (!name.startsWith(PREFIX)) continue;
      const path = join(parent, name);
      const isOfPlace = name.startsWith(prefix);
      const pid = isOfPlace ? Number.parseInt(name.slice(prefix.length), 10) : undefined;
      const isInUse =
        pid === undefined
          ? nowMs - (await changedMs(path)) < ABANDONED_AFTER_MS
          : pid === process.pid
            ? ours.has(path)
            : isAlive(pid);
      if (!isInUse) await rm(path, { recursive: true, force: true });
    }
  } catch (error) {
    throw toStorageError(error, 'clean up', parent);
  }
}

/** Newest change of a folder or of anything in it, ms since 1970; infinite where its process has just removed it. */
async function changedMs(folder: string): Promise<number> {
  try {
    let newestMs = (await stat(folder)).mtimeMs;
    for (const name of await readdir(folder, { recursive: true }))
      newestMs = Math.max(newestMs, (await stat(join(folder, name))).mtimeMs);
    return newestMs;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return Infinity;
    throw error;
  }
}
