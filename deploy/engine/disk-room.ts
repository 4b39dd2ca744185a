/** Whether a disk has room, asked before the work begins. */
import { statfs } from 'node:fs/promises';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { formatBytes } from './format-bytes.ts';

export interface DiskRoom {
  /** Bytes that may still be written to the file system of a folder. */
  readonly freeBytes: (folder: string) => Promise<number>;
}

/** Asks the file system. @throws PATH_UNUSABLE */
export async function freeBytes(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch (error) {
    throw toStorageError(error, 'look at', folder);
  }
}

/** @param purpose reads as "expected 1.5 GiB free PURPOSE" @throws DISK_FULL where less than `bytes` are free; PATH_UNUSABLE */
export async function requireRoom(disk: DiskRoom, folder: string, bytes: number, purpose: string): Promise<void> {
  const free = await disk.freeBytes(folder);
  if (free >= bytes) return;
  throw new TrainerError(
    'DISK_FULL',
    `expected ${formatBytes(bytes)} free ${purpose}, got ${formatBytes(free)} at ${folder}; ` +
      'free space there, or set EXMIX_HOME to a folder on another disk',
    { retryable: true },
  );
}
