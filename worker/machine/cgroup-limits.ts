/**
 * CPU time and memory that a container or batch system allows this process: the limits of its cgroup and of all above it. Version 2, version 1
 * and mixed layouts (kernel documentation, admin-guide/cgroup-v2 and cgroup-v1). The readers get the root of the file system, so that
 * tests can use captured files.
 */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

export interface CgroupLimits {
  /** CPU time in CPUs, e.g. 1.5; undefined without a limit. */
  readonly cpus: number | undefined;
  /** Undefined without a limit. */
  readonly memoryBytes: number | undefined;
}

/** Version 1 writes "no limit" as a number near 2^63. */
const NO_LIMIT_BYTES = 2 ** 62;

/** Folder of this process in one hierarchy. */
interface Membership {
  /** Controllers of version 1; empty for version 2. */
  readonly controllers: readonly string[];
  readonly path: string;
}

/** @param text of /proc/self/cgroup: lines `id:controllers:path` */
export function parseCgroupMemberships(text: string): Membership[] {
  return text
    .split('\n')
    .map((line) => /^\d+:([^:]*):(.+)$/u.exec(line))
    .filter((found) => found !== null)
    .map(([, controllers, path]) => ({
      controllers: controllers!.split(',').filter((name) => name !== ''),
      path: path!,
    }));
}

/** @param text of cpu.max: `quota period` or `max period`, µs */
export function parseCpuMax(text: string): number | undefined {
  const [quota, period] = text.trim().split(/\s+/u).map(Number);
  return quota !== undefined && period !== undefined && quota > 0 && period > 0 ? quota / period : undefined;
}

/** @param text of memory.max or memory.limit_in_bytes */
export function parseMemoryLimit(text: string): number | undefined {
  const bytes = Number(text.trim());
  return Number.isFinite(bytes) && bytes > 0 && bytes < NO_LIMIT_BYTES ? bytes : undefined;
}

/** The tightest limits from this process's cgroups up to the root; a missing file sets no limit. */
export async function readCgroupLimits(root = '/'): Promise<CgroupLimits> {
  const memberships = parseCgroupMemberships(await readOptional(join(root, 'proc/self/cgroup')));
  const cpus: (number | undefined)[] = [];
  const memoryBytes: (number | undefined)[] = [];
  for (const { controllers, path } of memberships) {
    const base = join(root, 'sys/fs/cgroup');
    for (const folder of foldersUpwards(path)) {
      if (controllers.length === 0) {
        cpus.push(parseCpuMax(await readOptional(join(base, folder, 'cpu.max'))));
        memoryBytes.push(parseMemoryLimit(await readOptional(join(base, folder, 'memory.max'))));
      }
      if (controllers.includes('cpu')) {
        const quota = await readOptional(join(base, 'cpu', folder, 'cpu.cfs_quota_us'));
        const period = await readOptional(join(base, 'cpu', folder, 'cpu.cfs_period_us'));
        cpus.push(parseCpuMax(`${quota.trim()} ${period.trim()}`));
      }
      if (controllers.includes('memory'))
        memoryBytes.push(parseMemoryLimit(await readOptional(join(base, 'memory', folder, 'memory.limit_in_bytes'))));
    }
  }
  return { cpus: smallest(cpus), memoryBytes: smallest(memoryBytes) };
}

/** A container often sees its own cgroup as the root: then only the last folder exists. */
function foldersUpwards(path: string): string[] {
  const folders = [path];
  for (let at = path; at !== dirname(at); at = dirname(at)) folders.push(dirname(at));
  return folders;
}

function smallest(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.min(...known);
}

async function readOptional(file: string): Promise<string> {
  return readFile(file, 'utf8').catch(() => '');
}
