/** Checks free disk space before the work begins. */
import { statfs } from 'node:fs/promises';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { formatBytes } from './format-bytes.ts';

export interface DiskSpace {
  /** Free bytes of the file system of a folder. */
  readonly freeBytes: (folder: string) => Promise<number>;
}

/** @throws PATH_UNUSABLE */
export async function freeBytes(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch (error) {
    throw toStorageError(error, 'read the free space of', folder);
  }
}

/** @param purpose completes "expected 1.5 GiB free …" @throws DISK_FULL if less than `bytes` are free; PATH_UNUSABLE */
export async function requireFreeSpace(disk: DiskSpace, folder: string, bytes: number, purpose: string): Promise<void> {
  const free = await disk.freeBytes(folder);
  if (free >= bytes) return;
  throw new TrainerError(
    'DISK_FULL',
    `expected ${formatBytes(bytes)} free ${purpose}, got ${formatBytes(free)} at ${folder}; ` +
      'free space there, or set EXMIX_HOME to a folder on another disk',
    { retryable: true },
  );
}
