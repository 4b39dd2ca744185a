/** Probes free space and speed of the disks of run folders and of exmix's home: the journal syncs each step, and checkpoints are large. */
import { open, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { systemCode } from '../../shared/atomic-file.ts';
import { ownFileTag } from '../../shared/process-place.ts';
import { formatBytes, type Finding } from './finding.ts';
import type { Probe } from './probe.ts';

const GIB = 2 ** 30;
const LOW_BYTES = GIB;
/** Too little for the smallest run. */
const FULL_BYTES = 64 * 2 ** 20;
const SYNCS = 8;
const RECORD_BYTES = 4096;
const WRITE_BYTES = 32 * 2 ** 20;
/** Each step waits for the sync of a journal record. */
const SLOW_SYNC_SECONDS = 0.1;

export interface DiskSpeed {
  /** Median time to write and sync a small record, s. */
  readonly syncSeconds: number;
  /** Speed of writing and syncing a large file. */
  readonly bytesPerSecond: number;
}

export function judgeFreeDisk(folder: string, freeBytes: number): Finding {
  const finding = { check: 'disk', detail: `${formatBytes(freeBytes)} free in ${folder}`, figures: { freeBytes } };
  const advice = 'free disk space, or point --run-dir and $EXMIX_HOME to another disk';
  if (freeBytes < FULL_BYTES) return { ...finding, status: 'fail', advice };
  return freeBytes < LOW_BYTES ? { ...finding, status: 'warn', advice } : { ...finding, status: 'ok' };
}

export function judgeDiskSpeed(folder: string, { syncSeconds, bytesPerSecond }: DiskSpeed): Finding {
  const syncMs = 1000 * syncSeconds;
  const detail = `fsync of a record ${syncMs.toFixed(1)} ms, ${(bytesPerSecond / 1e6).toFixed(0)} MB/s written and synced in ${folder}`;
  const finding = { check: 'disk speed', detail, figures: { syncMs, bytesPerSecond } };
  if (syncSeconds < SLOW_SYNC_SECONDS) return { ...finding, status: 'ok' };
  return { ...finding, status: 'warn', advice: 'each step waits for one fsync: put the run folder on a local disk' };
}

/** Writes a file of 32 MiB to the folder and removes it. @throws the file system's error */
async function measureDisk(folder: string, signal: AbortSignal): Promise<DiskSpeed> {
  const path = join(folder, `.exmix-doctor-${ownFileTag()}`);
  const file = await open(path, 'wx');
  try {
    const record = Buffer.alloc(RECORD_BYTES, 1);
    const seconds: number[] = [];
    for (let i = 0; i < SYNCS && !signal.aborted; i++) {
      const start = performance.now();
      await file.write(record);
      await file.datasync();
      seconds.push((performance.now() - start) / 1000);
    }
    const start = performance.now();
    const block = Buffer.alloc(WRITE_BYTES, 1);
    for (let written = 0; written < WRITE_BYTES && !signal.aborted;) {
      const { bytesWritten } = await file.write(block, written);
      written += bytesWritten;
    }
    await file.datasync();
    const bytesPerSecond = WRITE_BYTES / ((performance.now() - start) / 1000);
    return { syncSeconds: seconds.sort((a, b) => a - b)[seconds.length >> 1]!, bytesPerSecond };
  } finally {
    await file.close();
    await rm(path, { force: true });
  }
}

/** The folder, or its nearest existing ancestor. */
async function existingFolder(folder: string): Promise<string> {
  for (let at = resolve(folder); at !== dirname(at); at = dirname(at))
    if ((await stat(at).catch(() => undefined))?.isDirectory() === true) return at;
  return '/';
}

async function findFreeDisk(folder: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(await existingFolder(folder));
  return judgeFreeDisk(folder, bavail * bsize);
}

export const diskProbes: readonly Probe[] = [
  {
    check: 'disk',
    deadlineMs: 10_000,
    run: async ({ folder, home }) => [await findFreeDisk(folder), await findFreeDisk(home)],
  },
  {
    check: 'disk speed',
    deadlineMs: 60_000,
    run: async ({ folder }, signal) => {
      const at = await existingFolder(folder);
      try {
        return [judgeDiskSpeed(at, await measureDisk(at, signal))];
      } catch (error) {
        const code = systemCode(error) ?? '';
        const detail = `cannot write ${formatBytes(WRITE_BYTES)} in ${at}: ${code === 'ENOSPC' ? 'the disk is full' : (error as Error).message}`;
        const advice = 'free disk space, make the folder writable, or run exmix in another folder';
        return [{ check: 'disk speed', status: 'fail', detail, advice }];
      }
    },
  },
];
