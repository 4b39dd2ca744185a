/**
 * Folders that are being made: named by host and process, so that any number of processes can work in one place and what a killed
 * one leaves behind is known. Left-overs of other hosts are not touched: whether they are alive cannot be told.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { toStorageError } from './atomic-file.ts';
import { isAlive } from './process-identity.ts';

const PREFIX = '.partial-';

/** Those of this process, by path: a process id comes again after a restart of a container. */
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

/** Removes a folder that is not needed any more; one that was renamed is only forgotten. */
export async function dropPartialFolder(path: string): Promise<void> {
  ours.delete(path);
  await rm(path, { recursive: true, force: true });
}

/** Removes what processes of this host that are gone have left in `parent`. @throws PATH_UNUSABLE */
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
