/**
 * Records events of a training run for bench/overlap.ts. NODE_OPTIONS --import loads it first into every process and thread of `exmix train`.
 * It wraps the few methods of compute thread and network thread that mark the events.
 *
 * Each thread writes one line per record to its own file in $EXMIX_OVERLAP_FOLDER. Times are of the host's monotonic clock, so they can be
 * compared across threads and processes.
 */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMainThread, threadId, workerData } from 'node:worker_threads';

/** ms, the same clock in every process of the host. */
export type HostMs = number;

export type ProbeRecord =
  /** Compute thread: it entered a phase (worker/network/progress-cell.ts). */
  | { readonly kind: 'phase'; readonly atMs: HostMs; readonly phase: string; readonly step: number }
  /** Compute thread: one gradient was copied from the engine into the arena, and folded if it was the last of its bucket. */
  | { readonly kind: 'gradient'; readonly atMs: HostMs; readonly endMs: HostMs; readonly parameter: number }
  /** Compute thread: a bucket was posted to the network thread. */
  | { readonly kind: 'posted'; readonly atMs: HostMs; readonly bucket: number }
  /** Network thread: one step's all-reduce; bucket times count from `atMs`. */
  | {
      readonly kind: 'reduced';
      readonly atMs: HostMs;
      readonly step: number;
      readonly buckets: readonly { readonly announcedMs: number; readonly finalMs: number }[];
    };

const folder = process.env['EXMIX_OVERLAP_FOLDER'] ?? '.';
const records: ProbeRecord[] = [];
const now = (): HostMs => Number(process.hrtime.bigint()) / 1e6;

/** Called once per step, so that no file is written during the measured work. */
function write(): void {
  const name = `${process.pid}-${isMainThread ? 'compute' : 'link'}-${threadId}.jsonl`;
  appendFileSync(join(folder, name), records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  records.length = 0;
}

/* eslint-disable @typescript-eslint/unbound-method -- each is called with its original `this` */
async function watchComputeThread(): Promise<void> {
  const { ProgressCell } = await import('../worker/network/progress-cell.ts');
  const { LaneGradient } = await import('../worker/compute/lane-gradient.ts');
  const { NetworkClient } = await import('../worker/network/network-client.ts');
  const { advance } = ProgressCell.prototype;
  ProgressCell.prototype.advance = function (phase, step) {
    advance.call(this, phase, step);
    records.push({ kind: 'phase', atMs: now(), phase, step });
    if (phase === 'waiting') write();
  };
  const { add } = LaneGradient.prototype;
  LaneGradient.prototype.add = function (microbatch, parameter, gradient) {
    const atMs = now();
    add.call(this, microbatch, parameter, gradient);
    records.push({ kind: 'gradient', atMs, endMs: now(), parameter });
  };
  const { bucketReady } = NetworkClient.prototype;
  NetworkClient.prototype.bucketReady = function (bucket) {
    records.push({ kind: 'posted', atMs: now(), bucket });
    bucketReady.call(this, bucket);
  };
}

async function watchNetworkThread(): Promise<void> {
  const { Collective } = await import('../worker/collective/all-reduce.ts');
  const { startStep } = Collective.prototype;
  Collective.prototype.startStep = async function (step, signal) {
    const atMs = now();
    const result = await startStep.call(this, step, signal);
    records.push({ kind: 'reduced', atMs, step, buckets: result.buckets });
    setImmediate(write);
    return result;
  };
}

if (!isMainThread) {
  const { module } = workerData as { module?: string };
  if (module?.endsWith('/network-thread.ts') === true) await watchNetworkThread();
} else if (process.argv[2] === 'worker') await watchComputeThread();
