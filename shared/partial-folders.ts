/**
 * Unfinished folders, named by host and process: any number of processes can work in one parent folder, and the folders of a killed
 * process can be recognised. Folders of other hosts are not touched: this host cannot know whether their processes are alive.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { toStorageError } from './atomic-file.ts';
import { isAlive } from './process-identity.ts';

const PREFIX = '.partial-';

/** Paths of this process's folders: after a restart of a container, a process id can be used again. */
const ours = new Set<string>();
let numMade = 0;

/** A new, empty folder in `parent`, to be renamed or removed. @throws PATH_UNUSABLE, DISK_FULL */
export async function makePartialFolder(parent: string, name: string): Promise<string> {
  const path = join(parent, `${PREFIX}${hostname()}-${process.pid}-${numMade++}-${name}`);
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

/** Removes the folders in `parent` whose process on this host has ended. @throws PATH_UNUSABLE */
export async function removeAbandoned(parent: string): Promise<void> {
  const prefix = `${PREFIX}${hostname()}-`;
  try {
    for (const name of await readdir(parent)) {
      if (!name.startsWith(prefix)) continue;
      const pid = Number.parseInt(name.slice(prefix.length), 10);
      const path = join(parent, name);
      const isInUse = pid === process.pid ? ours.has(path) : isAlive(pid);
      if (!isInUse) await rm(path, { recursive: true, force: true });
    }
  } catch (error) {
    throw toStorageError(error, 'clean up', parent);
  }
}
