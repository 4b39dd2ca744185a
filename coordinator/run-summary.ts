/** What a run says of itself at the end and in its status: first and last losses, speed, last checkpoint. */
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import type { StepSummary } from './step/open-steps.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import type { LaneRun } from '../shared/lane-tree.ts';
import type { ReadyWorker } from './membership/roster.ts';

export interface LossSpan {
  readonly first: number;
  readonly last: number;
}

export interface PredictedRun {
  /** Of the slowest rank, without waiting for others, ms. */
  readonly stepMs: number;
  /** Of the largest worker process, B. */
  readonly workerBytes: number;
}

export interface RunSummaryView {
  /** Updates applied. */
  readonly step: number;
  readonly stepsTrained: number;
  readonly loss?: LossSpan;
  readonly taskLoss: Readonly<Record<string, LossSpan>>;
  /** Median over the steps of this session. */
  readonly tokensPerSecond: number;
  readonly worldSize: number;
  /** What the workers expected when their engines were up; left out where they did not say. */
  readonly predicted?: PredictedRun;
  /** What came of it. */
  readonly measured?: PredictedRun;
  readonly paramDigest: string | null;
  readonly checkpoint?: string;
}

export class RunSummary {
  readonly #speeds: number[] = [];
  /** Compute and update of the slowest rank. */
  readonly #stepMs: number[] = [];
  #predicted: PredictedRun | undefined;
  readonly #taskLoss = new Map<string, LossSpan>();
  #step: number;
  #stepsTrained = 0;
  #worldSize = 0;
  #loss: LossSpan | undefined;
  #checkpoint: string | undefined;
  #paramDigest: string | null;

  constructor(start: { step: number; checkpoint?: { path: string; paramDigest: string } }) {
    this.#step = start.step;
    this.#checkpoint = start.checkpoint?.path;
    this.#paramDigest = start.checkpoint?.paramDigest ?? null;
  }

  commit({ step, loss, taskLoss, ms }: StepSummary, tokensPerSecond: number): void {
    this.#step = step;
    this.#stepsTrained += 1;
    this.#loss = { first: this.#loss?.first ?? loss, last: loss };
    for (const [task, last] of Object.entries(taskLoss))
      this.#taskLoss.set(task, { first: this.#taskLoss.get(task)?.first ?? last, last });
    this.#speeds.push(tokensPerSecond);
    this.#stepMs.push(ms.compute + ms.update);
  }

  skip(step: number): void {
    this.#step = step;
  }

  formed(worldSize: number): void {
    this.#worldSize = worldSize;
  }

  predict(predicted: PredictedRun): void {
    this.#predicted = predicted;
  }

  publish({ path, paramDigest }: PublishedCheckpoint): void {
    this.#checkpoint = path;
    this.#paramDigest = paramDigest;
  }

  /** @param workerBytes the most memory that a worker has reported */
  view(workerBytes = 0): RunSummaryView {
    return {
      step: this.#step,
      stepsTrained: this.#stepsTrained,
      ...(this.#loss === undefined ? {} : { loss: this.#loss }),
      taskLoss: Object.fromEntries([...this.#taskLoss].sort(([a], [b]) => (a < b ? -1 : 1))),
      tokensPerSecond: Math.round(median(this.#speeds)),
      worldSize: this.#worldSize,
      ...(this.#predicted === undefined || this.#stepMs.length === 0
        ? {}
        : { predicted: this.#predicted, measured: { stepMs: median(this.#stepMs), workerBytes } }),
      paramDigest: this.#paramDigest,
      ...(this.#checkpoint === undefined ? {} : { checkpoint: this.#checkpoint }),
    };
  }
}

/** 0 of nothing. */
function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}

// FOLDED run-summary.ts
/** What a generation's workers expect together: the slowest rank's step, the largest process. Pure. */

/**
 * @param members in rank order @param runs their lanes
 * @returns undefined where a member did not say what it expects
 */
export function predictRunOf(
  members: readonly { readonly facts: Pick<ReadyWorker['facts'], 'predicted'> }[],
  runs: readonly LaneRun[],
  { training }: Pick<RunConfig, 'training'>,
): PredictedRun | undefined {
  const microbatchesPerLane = training.rowsPerStep / training.numLanes / training.microbatchRows;
  let [stepMs, workerBytes] = [0, 0];
  for (const [rank, { facts }] of members.entries()) {
    const { predicted } = facts;
    if (predicted === undefined) return undefined;
    const { first, end } = runs[rank]!;
    const computeMs = (end - first) * microbatchesPerLane * predicted.microbatchMs;
    stepMs = Math.max(stepMs, computeMs + predicted.updateMs);
    workerBytes = Math.max(workerBytes, predicted.workerBytes);
  }
  return { stepMs, workerBytes };
}
