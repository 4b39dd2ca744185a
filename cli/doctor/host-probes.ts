/** Probes Node, processor, memory and open files. Judgements are pure; the probes read the machine. */
import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { readCgroupLimits, type CgroupLimits } from '../../worker/machine/cgroup-limits.ts';
import { parseCpuInfo, type CpuInfo } from '../../worker/machine/cpu-info.ts';
import { readMemory } from '../../worker/machine/memory-info.ts';
import { parseOpenFilesLimit } from '../../worker/machine/process-limits.ts';
import { formatBytes, type Finding } from './finding.ts';
import type { Probe } from './probe.ts';

const GIB = 2 ** 30;
const LEAST_AVAILABLE_BYTES = GIB;
const COPY_BYTES = 64 * 2 ** 20;
/** B/s; any recent machine is faster. */
const SLOW_COPY = 5e8;
/** Sockets of a mesh of some hundred workers, token shards (at most 128), and the other files. */
const LEAST_OPEN_FILES = 1024;

/** @param version as process.versions.node */
export function judgeNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const isFit = major > 20 || (major === 20 && minor >= 19);
  if (isFit) return { check: 'node', status: 'ok', detail: version };
  return { check: 'node', status: 'fail', detail: version, advice: 'install Node 20.19 or later' };
}

export function judgeCpu(info: CpuInfo, { cpus }: CgroupLimits, usable: number): Finding {
  const flags = info.vectorFlags.length === 0 ? 'no known vector instructions' : info.vectorFlags.join(' ');
  const limit = cpus === undefined ? '' : `, a cgroup allows ${cpus.toFixed(1)}`;
  const model = info.model === '' ? process.arch : info.model;
  const detail = `${model}, ${usable} of ${info.numProcessors} processors usable${limit}; ${flags}`;
  const figures = { numProcessors: info.numProcessors, usable, ...(cpus === undefined ? {} : { cgroupCpus: cpus }) };
  const problem = (advice: string): Finding => ({ check: 'cpu', status: 'warn', detail, advice, figures });
  if (!info.hasAvx) return problem('the native engine needs AVX and would crash with SIGILL here: use --engine wasm');
  if (cpus !== undefined && cpus < usable)
    return problem(
      `threads beyond ${Math.max(1, Math.floor(cpus))} only wait: keep --workers × compute.threads within it, or raise the limit`,
    );
  return { check: 'cpu', status: 'ok', detail, figures };
}

export function judgeMemory({
  totalBytes,
  availableBytes,
  limitBytes,
}: Awaited<ReturnType<typeof readMemory>>): Finding {
  const limit = limitBytes === undefined ? '' : `, a cgroup allows ${formatBytes(limitBytes)}`;
  const detail = `${formatBytes(availableBytes)} available of ${formatBytes(totalBytes)}${limit}`;
  const figures = { totalBytes, availableBytes, ...(limitBytes === undefined ? {} : { limitBytes }) };
  if (availableBytes >= LEAST_AVAILABLE_BYTES) return { check: 'memory', status: 'ok', detail, figures };
  const advice = 'end other programs, raise the limit, or use fewer workers or a smaller preset';
  return { check: 'memory', status: 'warn', detail, advice, figures };
}

export function judgeCopy(bytesPerSecond: number): Finding {
  const finding = {
    check: 'copy',
    detail: `${(bytesPerSecond / 1e9).toFixed(1)} GB/s within memory, one thread`,
    figures: { bytesPerSecond },
  };
  if (bytesPerSecond >= SLOW_COPY) return { ...finding, status: 'ok' };
  return { ...finding, status: 'warn', advice: 'the machine is busy or swaps: measure again when it is idle' };
}

/** @param limit undefined if unknown */
export function judgeOpenFiles(limit: number | undefined): Finding {
  const check = 'open files';
  if (limit === undefined) return { check, status: 'ok', detail: 'unknown limit' };
  const figures = Number.isFinite(limit) ? { limit } : {};
  const detail = Number.isFinite(limit) ? `at most ${limit}` : 'no limit';
  if (limit >= LEAST_OPEN_FILES) return { check, status: 'ok', detail, figures };
  return { check, status: 'warn', detail, advice: `ulimit -n ${LEAST_OPEN_FILES} or more, for many workers`, figures };
}

/** Median speed of copying 64 MiB within memory, B/s. Snapshots and gradients are copied so. */
function measureCopy(): number {
  const from = new Uint8Array(COPY_BYTES).fill(1);
  const to = new Uint8Array(COPY_BYTES);
  const seconds = Array.from({ length: 5 }, () => {
    const start = performance.now();
    to.set(from);
    return (performance.now() - start) / 1000;
  }).sort((a, b) => a - b);
  return COPY_BYTES / seconds[2]!;
}

export const hostProbes: readonly Probe[] = [
  { check: 'node', deadlineMs: 1_000, run: () => Promise.resolve([judgeNode(process.versions.node)]) },
  {
    check: 'cpu',
    deadlineMs: 5_000,
    run: async ({ root }) => {
      const text = await readFile(join(root, 'proc/cpuinfo'), 'utf8').catch(() => '');
      return [judgeCpu(parseCpuInfo(text), await readCgroupLimits(root), availableParallelism())];
    },
  },
  { check: 'memory', deadlineMs: 5_000, run: async ({ root }) => [judgeMemory(await readMemory(root))] },
  {
    check: 'copy',
    deadlineMs: 10_000,
    run: () => Promise.resolve([judgeCopy(measureCopy())]),
  },
  {
    check: 'open files',
    deadlineMs: 5_000,
    run: async ({ root }) => {
      const text = await readFile(join(root, 'proc/self/limits'), 'utf8').catch(() => '');
      return [judgeOpenFiles(parseOpenFilesLimit(text))];
    },
  },
];
