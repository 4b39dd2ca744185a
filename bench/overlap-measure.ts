/**
 * Measures the overlap of a step's communication with its computation. Pure.
 *
 * Definitions, over all workers of a step. A bucket *moves* from its announcement by the last worker (waiting for a slower worker is not
 * communication) until its sum is final on every worker. The computation ends with the last announcement of all buckets. Communication before
 * that is *beside*, after it *exposed*.
 */

export interface BucketSpan {
  readonly bytes: number;
  /** For each worker, ms on one clock. */
  readonly announcedMs: readonly number[];
  readonly finalMs: readonly number[];
}

export interface StepOverlap {
  /** Time in which at least one bucket moved: beside + exposed. */
  readonly movingMs: number;
  readonly besideMs: number;
  readonly exposedMs: number;
  /** Share of all bytes whose sum was final while some worker still computed. */
  readonly finalShare: number;
}

interface Interval {
  readonly startMs: number;
  readonly endMs: number;
}

function movingInterval({ announcedMs, finalMs }: BucketSpan): Interval {
  return { startMs: Math.max(...announcedMs), endMs: Math.max(...finalMs) };
}

export function measureOverlap(buckets: readonly BucketSpan[]): StepOverlap {
  const computedMs = Math.max(...buckets.flatMap(({ announcedMs }) => announcedMs));
  const moving = buckets.map(movingInterval);
  const movingMs = unionMs(moving);
  const besideMs = unionMs(moving.map(({ startMs, endMs }) => ({ startMs, endMs: Math.min(endMs, computedMs) })));
  const sumBytes = (spans: readonly BucketSpan[]): number => spans.reduce((sum, { bytes }) => sum + bytes, 0);
  const early = buckets.filter(({ finalMs }) => Math.max(...finalMs) <= computedMs);
  return { movingMs, besideMs, exposedMs: movingMs - besideMs, finalShare: sumBytes(early) / sumBytes(buckets) };
}

/** Length of the union of the intervals. */
function unionMs(intervals: readonly Interval[]): number {
  let sum = 0;
  let coveredMs = Number.NEGATIVE_INFINITY;
  for (const { startMs, endMs } of intervals.toSorted((a, b) => a.startMs - b.startMs)) {
    sum += Math.max(0, endMs - Math.max(startMs, coveredMs));
    coveredMs = Math.max(coveredMs, endMs);
  }
  return sum;
}
