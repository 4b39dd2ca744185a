/**
 * Opens, reads and writes files; a written file is either whole or absent: write, fsync, rename, fsync the folder.
 *
 * Assumes a file system where rename within a folder is atomic and fsync reaches the disk (ext4, xfs, NFS, Lustre).
 * Every failure of the file system becomes a TrainerError that names the path and the action.
 */
import { createHash } from 'node:crypto';
import { type Stats, constants } from 'node:fs';
import { copyFile, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { threadId } from 'node:worker_threads';
import { TrainerError } from './errors.ts';
import { throwIfAborted } from './abort.ts';
import { ownFileTag } from './process-place.ts';

/** Bytes read at a time when a file is hashed. */
const HASH_CHUNK_BYTES = 4 * 1024 * 1024;

/** Size and SHA-256 (hex) of a file. */
export interface FileDigest {
  readonly bytes: number;
  readonly sha256: string;
}

/** The code of a system error (`ENOSPC`, …), or undefined for anything else that was thrown. */
export function systemCode(error: unknown): string | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}

/**
 * A failure of the file system → DISK_FULL if there is no free space, PATH_UNUSABLE for every other system error. A TrainerError is
 * returned as it is.
 * @param action the verb of the message: `write` gives "cannot write PATH"
 */
export function toStorageError(error: unknown, action: string, path: string): TrainerError {
  if (error instanceof TrainerError) return error;
  const code = systemCode(error);
  if (code === 'ENOSPC' || code === 'EDQUOT')
    return new TrainerError(
      'DISK_FULL',
      `cannot ${action} ${path}: no free space (${code}); free some there or raise the quota`,
      {
        retryable: true,
        cause: error,
      },
    );
  if (code === undefined)
    return new TrainerError('INTERNAL', `cannot ${action} ${path}: ${String(error)}`, { cause: error });
  return new TrainerError('PATH_UNUSABLE', `cannot ${action} ${path} (${code})`, { cause: error });
}

/** Opens a file for one use of it, and closes it. @throws the error of the system or of the use, as it is */
export async function withFile<T>(
  path: string,
  flags: string | number,
  use: (file: FileHandle) => Promise<T>,
  mode?: number,
): Promise<T> {
  const file = await open(path, flags, mode);
  try {
    return await use(file);
  } finally {
    await file.close();
  }
}

/** Flags that open a file of anybody: open(2) of a FIFO does not block, a terminal does not become ours. */
export const READ_ONLY = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY;

/**
 * As withFile, to read a regular file that anybody may have made: a FIFO blocks nobody, and a device is not read.
 * @throws PATH_UNUSABLE for another kind of file; the error of the system or of the use, as it is
 */
export async function withRegularFile<T>(
  path: string,
  use: (file: FileHandle, facts: Stats) => Promise<T>,
): Promise<T> {
  return withFile(path, READ_ONLY, async (file) => {
    const facts = await file.stat();
    checkRegular(path, facts);
    return use(file, facts);
  });
}

/**
 * Opens or creates a file of a run folder to append to it. The folder may be a stranger's: a link must not lead to another file, and a FIFO
 * must not block.
 * @throws PATH_UNUSABLE for anything but a regular file; the error of the system as it is
 */
export async function openToAppend(path: string): Promise<FileHandle> {
  const { O_APPEND, O_CREAT, O_WRONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  let file: FileHandle;
  try {
    file = await open(path, O_APPEND | O_CREAT | O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    const found = { ELOOP: 'a symbolic link', ENXIO: 'a FIFO' }[systemCode(error) ?? ''];
    if (found === undefined) throw error;
    throw new TrainerError('PATH_UNUSABLE', `${path}: expected a regular file, found ${found}`, { cause: error });
  }
  try {
    checkRegular(path, await file.stat());
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** @throws PATH_UNUSABLE for anything but a regular file */
export function checkRegular(path: string, facts: Stats): void {
  if (facts.isFile()) return;
  throw new TrainerError('PATH_UNUSABLE', `${path}: expected a regular file, found ${kindOf(facts)}`);
}

function kindOf(facts: Stats): string {
  if (facts.isDirectory()) return 'a folder';
  if (facts.isFIFO()) return 'a FIFO';
  return facts.isSocket() ? 'a socket' : 'a device';
}

/** Makes the names in a folder durable. @throws PATH_UNUSABLE, DISK_FULL */
export async function syncFolder(path: string): Promise<void> {
  try {
    await withFile(path, 'r', (folder) => folder.sync());
  } catch (error) {
    throw toStorageError(error, 'fsync', path);
  }
}

/** Copies a file and fsyncs the copy; its name becomes durable with the next fsync of its folder. @throws the system's error as it is */
async function copyAndSync(source: string, target: string): Promise<void> {
  await rm(target, { force: true }); // a link there must not lead to another file
  await copyFile(source, target, constants.COPYFILE_EXCL);
  await withFile(target, 'r+', (file) => file.sync());
}

/** Copies a file and fsyncs the copy; its name becomes durable with the next fsync of its folder. @throws PATH_UNUSABLE, DISK_FULL */
export async function copyDurably(source: string, target: string): Promise<void> {
  try {
    await copyAndSync(source, target);
  } catch (error) {
    throw toStorageError(error, `copy ${source} to`, target);
  }
}

/**
 * Writes a new file and fsyncs it; the name becomes durable with the next fsync of its folder.
 * @throws PATH_UNUSABLE if the file exists or cannot be made; DISK_FULL
 */
export async function writeNewFile(path: string, content: string | Uint8Array, mode = 0o666): Promise<void> {
  try {
    const write = async (file: FileHandle): Promise<void> => {
      await file.writeFile(content);
      await file.sync();
    };
    await withFile(path, 'wx', write, mode);
  } catch (error) {
    throw toStorageError(error, 'write', path);
  }
}

/**
 * Makes the names of temporary files unique within this thread: two calls may replace the same file at the same time. Process, its
 * place and thread are in the name too, because other threads, processes and hosts may replace it.
 */
let numReplaced = 0;

/**
 * Replaces a file: after a crash at any moment a reader sees the old content or the new one, never a mix.
 * @throws PATH_UNUSABLE, DISK_FULL; the old file then stays as it was
 */
export async function replaceFile(path: string, content: string | Uint8Array, mode = 0o666): Promise<void> {
  const temporary = `${path}.new-${ownFileTag()}-${threadId}-${numReplaced++}`;
  try {
    await rm(temporary, { force: true });
    await writeNewFile(temporary, content, mode);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw toStorageError(error, 'write', path);
  }
  await syncFolder(dirname(path));
}

/**
 * Replaces a file, if it exists, by a copy of it: a process that still has the old one open writes to an unlinked file from then on.
 * @throws PATH_UNUSABLE, DISK_FULL; the file then stays as it was
 */
export async function replaceByCopy(path: string): Promise<void> {
  const copy = `${path}.own`;
  try {
    await copyAndSync(path, copy);
    await rename(copy, path);
  } catch (error) {
    await rm(copy, { force: true });
    if (systemCode(error) === 'ENOENT') return;
    throw toStorageError(error, 'take over', path);
  }
  await syncFolder(dirname(path));
}

/** Facts of a path; undefined if it does not exist. @throws PATH_UNUSABLE */
export async function statIfThere(path: string): Promise<Stats | undefined> {
  return stat(path).catch((error: unknown) => notThere(error, path));
}

/** @throws PATH_UNUSABLE unless the error says that the path does not exist */
export function notThere(error: unknown, path: string): undefined {
  if (systemCode(error) !== 'ENOENT') throw toStorageError(error, 'read', path);
}

/** Size and SHA-256 of a file, read in pieces. @throws PATH_UNUSABLE; ABORTED between two pieces */
export async function hashFile(path: string, signal?: AbortSignal): Promise<FileDigest> {
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    await withRegularFile(path, async (file) => {
      const chunk = Buffer.allocUnsafe(HASH_CHUNK_BYTES);
      for (;;) {
        throwIfAborted(signal, `hashing ${path}`);
        const { bytesRead } = await file.read(chunk, 0, chunk.length);
        if (bytesRead === 0) break;
        hash.update(chunk.subarray(0, bytesRead));
        bytes += bytesRead;
      }
    });
  } catch (error) {
    throw toStorageError(error, 'read', path);
  }
  return { bytes, sha256: hash.digest('hex') };
}

/**
 * Removes the entries of a folder whose names start with one of `prefixes`: unfinished work of a killed process.
 * @returns the paths removed, sorted @throws PATH_UNUSABLE
 */
export async function removeLeftovers(folder: string, prefixes: readonly string[]): Promise<string[]> {
  try {
    const names = (await readdir(folder)).filter((name) => prefixes.some((prefix) => name.startsWith(prefix))).sort();
    for (const name of names) await rm(join(folder, name), { recursive: true, force: true });
    return names.map((name) => join(folder, name));
  } catch (error) {
    throw toStorageError(error, 'clean up', folder);
  }
}
