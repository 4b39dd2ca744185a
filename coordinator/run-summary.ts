/** What a run says of itself at the end and in its status: first and last losses, speed, last checkpoint. */
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import type { StepSummary } from './open-steps.ts';

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
