/**
 * The folder of one unit: verify it, publish it atomically, remove it if it belongs to another preparation.
 *
 * Any number of processes may do this at the same time, on all hosts that share the file system. The bytes of a unit do
 * not depend on the process that makes it, so the first published one stays.
 */
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFile, statIfThere, syncFolder, systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { readSmallFile } from '../../shared/small-file.ts';
import { dropPartialFolder, makePartialFolder } from '../../shared/partial-folders.ts';
import { filesOf } from './prepared-format.ts';
import { parseUnitRecord, UNIT_FILE, type UnitRecord } from './unit-record.ts';

const UNIT_PREFIX = 'unit-';

/** What a unit must match to be used. */
export interface UnitKey {
  readonly task: string;
  readonly number: number;
  /** Hash of the task's identity. */
  readonly identity: string;
}

/** Name of the folder of a unit. */
export function unitFolderName(number: number): string {
  return `${UNIT_PREFIX}${String(number).padStart(5, '0')}`;
}

/** Number of the unit with this folder name. Undefined for any other name. */
export function unitNumberOf(name: string): number | undefined {
  const digits = /^unit-(\d{5,})$/u.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

export type UnitState =
  | { readonly state: 'whole'; readonly record: UnitRecord }
  | { readonly state: 'missing' }
  /** It exists but cannot be used; `reason` says why. */
  | { readonly state: 'stale' | 'damaged'; readonly reason: string };

/** The state by unit.json alone. @throws PATH_UNUSABLE if it cannot be read */
export async function readUnitState(folder: string, key: UnitKey): Promise<UnitState> {
  const path = join(folder, UNIT_FILE);
  let record: UnitRecord;
  try {
    record = parseUnitRecord((await readSmallFile(path)).toString('utf8'), path);
  } catch (error) {
    if (error instanceof TrainerError) return { state: 'damaged', reason: `${path} is damaged or of another version` };
    if (systemCode(error) === 'ENOENT')
      return (await statIfThere(folder))?.isDirectory() === true
        ? { state: 'damaged', reason: `${path} is missing` }
        : { state: 'missing' };
    throw toStorageError(error, 'read', path);
  }
  if (record.task !== key.task || record.number !== key.number || record.identity !== key.identity)
    return { state: 'stale', reason: `${folder} was made from another source or other settings` };
  return { state: 'whole', record };
}

/**
 * As readUnitState, and also compares the size of each shard and, with `hashes`, its hash.
 * @throws PATH_UNUSABLE, ABORTED
 */
export async function verifyUnit(
  folder: string,
  key: UnitKey,
  hashes: boolean,
  signal?: AbortSignal,
): Promise<UnitState> {
  const found = await readUnitState(folder, key);
  if (found.state !== 'whole') return found;
  for (const { file, bytes, sha256 } of found.record.shards.flatMap(filesOf)) {
    const path = join(folder, file);
    const size = (await statIfThere(path))?.size;
    if (size === undefined) return { state: 'damaged', reason: `${path} is missing` };
    if (size !== bytes || (hashes && (await hashFile(path, signal)).sha256 !== sha256))
      return { state: 'damaged', reason: `${path} is damaged` };
  }
  return found;
}

/**
 * Removes a unit that cannot be used. It is renamed first and read again: if another process has published a good one
 * in the meantime, that one is renamed back.
 */
export async function removeUnit(taskFolder: string, key: UnitKey, why: 'stale' | 'damaged'): Promise<void> {
  const folder = join(taskFolder, unitFolderName(key.number));
  const partial = await makePartialFolder(taskFolder, 'old');
  const aside = join(partial, unitFolderName(key.number));
  try {
    await rename(folder, aside);
    if (why === 'stale' && (await readUnitState(aside, key)).state === 'whole') await rename(aside, folder);
  } catch (error) {
    const code = systemCode(error);
    // Another process removed or replaced it. The new state is read when it is needed.
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY' && code !== 'EEXIST') throw toStorageError(error, 'remove', folder);
  } finally {
    await dropPartialFolder(partial);
  }
}

/**
 * Renames a finished partial folder to the folder of the unit. If another process was first, its bytes are the same.
 * @throws PATH_UNUSABLE if something else is in the way, DISK_FULL
 */
export async function publishUnit(partial: string, taskFolder: string, key: UnitKey): Promise<void> {
  const folder = join(taskFolder, unitFolderName(key.number));
  try {
    await syncFolder(partial);
    await rename(partial, folder);
  } catch (error) {
    if ((await readUnitState(folder, key)).state !== 'whole') throw toStorageError(error, 'create', folder);
  }
  await syncFolder(taskFolder);
}
