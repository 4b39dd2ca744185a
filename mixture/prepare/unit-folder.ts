/**
 * The folder of one unit: found and verified, published whole, removed where it is of another preparation.
 *
 * Any number of processes may do this at the same time, on any hosts that share the file system: a unit's bytes are the same
 * whoever makes it, so the first that is published stays.
 */
import { readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFile, statIfThere, syncFolder, systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { dropPartialFolder, makePartialFolder } from '../../shared/partial-folders.ts';
import { filesOf } from './shard-entry.ts';
import { parseUnitRecord, UNIT_FILE, type UnitRecord } from './unit-record.ts';

const UNIT_PREFIX = 'unit-';

/** What a unit must be to be used. */
export interface UnitKey {
  readonly task: string;
  readonly number: number;
  /** Hash of the task's identity. */
  readonly identity: string;
}

/** Name of a unit's folder in the folder of its task. */
export function unitFolderName(number: number): string {
  return `${UNIT_PREFIX}${String(number).padStart(5, '0')}`;
}

/** Number of the unit of that folder name; undefined for any other name. */
export function unitNumberOf(name: string): number | undefined {
  const digits = /^unit-(\d{5,})$/u.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

export type FoundUnit =
  | { readonly state: 'whole'; readonly record: UnitRecord }
  | { readonly state: 'missing' }
  /** There, but not to be used; `reason` says why. */
  | { readonly state: 'stale' | 'damaged'; readonly reason: string };

/** What a look at unit.json alone tells. @throws PATH_UNUSABLE where it cannot be read */
export async function lookAtUnit(folder: string, key: UnitKey): Promise<FoundUnit> {
  const path = join(folder, UNIT_FILE);
  let record: UnitRecord;
  try {
    record = parseUnitRecord(await readFile(path, 'utf8'), path);
  } catch (error) {
    if (error instanceof TrainerError) return { state: 'damaged', reason: `${path} is damaged or of another version` };
    if (systemCode(error) === 'ENOENT')
      return (await statIfThere(folder))?.isDirectory() === true
        ? { state: 'damaged', reason: `${path} is missing` }
        : { state: 'missing' };
    throw toStorageError(error, 'read', path);
  }
  if (record.task !== key.task || record.number !== key.number || record.identity !== key.identity)
    return { state: 'stale', reason: `${folder} was made from something else` };
  return { state: 'whole', record };
}

/**
 * As lookAtUnit, and every shard has its size and, with `hashes`, its hash.
 * @throws PATH_UNUSABLE, ABORTED
 */
export async function findUnit(
  folder: string,
  key: UnitKey,
  hashes: boolean,
  signal?: AbortSignal,
): Promise<FoundUnit> {
  const found = await lookAtUnit(folder, key);
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
 * Removes a unit that is not to be used. It is moved away first and looked at again: where another process has put a good one
 * in its place in between, that one is put back.
 */
export async function removeUnit(taskFolder: string, key: UnitKey, why: 'stale' | 'damaged'): Promise<void> {
  const folder = join(taskFolder, unitFolderName(key.number));
  const partial = await makePartialFolder(taskFolder, 'old');
  const aside = join(partial, unitFolderName(key.number));
  try {
    await rename(folder, aside);
    if (why === 'stale' && (await lookAtUnit(aside, key)).state === 'whole') await rename(aside, folder);
  } catch (error) {
    const code = systemCode(error);
    // Gone or replaced by another process: what is there now is found when it is needed.
    if (code !== 'ENOENT' && code !== 'ENOTEMPTY' && code !== 'EEXIST') throw toStorageError(error, 'remove', folder);
  } finally {
    await dropPartialFolder(partial);
  }
}

/**
 * Makes a finished partial folder the unit's folder; where another process was first, its bytes are the same.
 * @throws PATH_UNUSABLE where something else is in the way, DISK_FULL
 */
export async function publishUnit(partial: string, taskFolder: string, key: UnitKey): Promise<void> {
  const folder = join(taskFolder, unitFolderName(key.number));
  try {
    await syncFolder(partial);
    await rename(partial, folder);
  } catch (error) {
    if ((await lookAtUnit(folder, key)).state !== 'whole') throw toStorageError(error, 'create', folder);
  }
  await syncFolder(taskFolder);
}
