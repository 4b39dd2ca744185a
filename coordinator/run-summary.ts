/** What a run says of itself at the end and in its status: first and last losses, speed, last checkpoint. */
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import type { StepSummary } from './step-ledger.ts';

export interface LossSpan {
  readonly first: number;
  readonly last: number;
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
  readonly paramDigest: string | null;
  readonly checkpoint?: string;
}

export class RunSummary {
  readonly #speeds: number[] = [];
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

  commit({ step, loss, taskLoss }: StepSummary, tokensPerSecond: number): void {
    this.#step = step;
    this.#stepsTrained += 1;
    this.#loss = { first: this.#loss?.first ?? loss, last: loss };
    for (const [task, last] of Object.entries(taskLoss))
      this.#taskLoss.set(task, { first: this.#taskLoss.get(task)?.first ?? last, last });
    this.#speeds.push(tokensPerSecond);
  }

  formed(worldSize: number): void {
    this.#worldSize = worldSize;
  }

  publish({ path, paramDigest }: PublishedCheckpoint): void {
    this.#checkpoint = path;
    this.#paramDigest = paramDigest;
  }

  view(): RunSummaryView {
    const sorted = [...this.#speeds].sort((a, b) => a - b);
    return {
      step: this.#step,
      stepsTrained: this.#stepsTrained,
      ...(this.#loss === undefined ? {} : { loss: this.#loss }),
      taskLoss: Object.fromEntries([...this.#taskLoss].sort(([a], [b]) => (a < b ? -1 : 1))),
      tokensPerSecond: Math.round(sorted[sorted.length >> 1] ?? 0),
      worldSize: this.#worldSize,
      paramDigest: this.#paramDigest,
      ...(this.#checkpoint === undefined ? {} : { checkpoint: this.#checkpoint }),
    };
  }
}
