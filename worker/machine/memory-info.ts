/** Memory that this process can use: /proc/meminfo and the cgroup's limit. */
import { readFile } from 'node:fs/promises';
import { freemem, totalmem } from 'node:os';
import { join } from 'node:path';
import { readCgroupLimits } from './cgroup-limits.ts';

export interface MemoryInfo {
  readonly totalBytes: number;
  /** Without swapping: free memory and what the kernel would give back (MemAvailable). */
  readonly availableBytes: number;
}

const KIB = 1024;

/** @param text of /proc/meminfo @returns undefined where a line is missing, as outside Linux */
export function parseMemoryInfo(text: string): MemoryInfo | undefined {
  const kibOf = (key: string): number => Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'mu').exec(text)?.[1]);
  const [totalBytes, availableBytes] = [KIB * kibOf('MemTotal'), KIB * kibOf('MemAvailable')];
  return Number.isNaN(totalBytes + availableBytes) ? undefined : { totalBytes, availableBytes };
}

/** Of this machine; `limitBytes`: of the cgroup, where it has one. */
export async function readMemory(root = '/'): Promise<MemoryInfo & { readonly limitBytes: number | undefined }> {
  const text = await readFile(join(root, 'proc/meminfo'), 'utf8').catch(() => '');
  const info = parseMemoryInfo(text) ?? { totalBytes: totalmem(), availableBytes: freemem() };
  const { memoryBytes: limitBytes } = await readCgroupLimits(root);
  return {
    totalBytes: info.totalBytes,
    availableBytes: Math.min(info.availableBytes, limitBytes ?? info.availableBytes),
    limitBytes,
  };
}
