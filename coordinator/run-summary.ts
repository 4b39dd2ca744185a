/** The summary of a session: first and last losses, speed, memory. Shown at the end of a run and in its status. */
import type { RunConfig } from '../shared/config/schema.ts';
import type { LaneRun } from '../shared/lane-tree.ts';
import { median } from '../shared/statistics.ts';
import type { CheckpointRef } from './checkpoint/saver.ts';
import type { ReadyWorker } from './membership/roster.ts';
import type { CommitObserver } from './step/committer.ts';
import type { StepSummary } from './step/open-steps.ts';
import type { EarlyStop } from './validation/early-stop.ts';
import type { ValidationView } from './validation/validator.ts';

export interface LossSpan {
  readonly first: number;
  readonly last: number;
}

export interface PredictedRun {
  /** Compute and update of the slowest rank, without waiting for others, ms. */
  readonly stepMs: number;
  /** Memory of the largest worker process, B. */
  readonly workerBytes: number;
}

export interface RunSummaryView {
  /** Updates applied. */
  readonly step: number;
  /** Updates in the newest checkpoint; 0 where there is none. */
  readonly savedStep: number;
  readonly stepsTrained: number;
  /** Steps of this session whose gradient was not finite: nothing was applied, and their examples are used up. */
  readonly stepsSkipped: number;
  readonly loss?: LossSpan;
  readonly taskLoss: Readonly<Record<string, LossSpan>>;
  /** Median over the steps of this session. */
  readonly tokensPerSecond: number;
  readonly worldSize: number;
  /** Predicted by the workers when their engines were ready; left out where they did not predict. */
  readonly predicted?: PredictedRun;
  readonly measured?: PredictedRun;
  readonly paramDigest: string | null;
  readonly checkpoint?: string;
  /** No further step is trained, by `evaluation.stopWhen`; left out where it has not decided so. */
  readonly stoppedEarly?: EarlyStop;
  /** Left out where nothing was validated. */
  readonly validation?: ValidationView;
}

export class RunSummary implements CommitObserver {
  readonly #speeds: number[] = [];
  /** Compute and update of the slowest rank in each step. */
  readonly #stepMs: number[] = [];
  readonly #taskLoss = new Map<string, LossSpan>();
  #predicted: PredictedRun | undefined;
  #stepsTrained = 0;
  #stepsSkipped = 0;
  #worldSize = 0;
  #loss: LossSpan | undefined;

  onCommit({ loss, taskLoss, ms }: StepSummary, { tokensPerSecond }: { readonly tokensPerSecond: number }): void {
    this.#stepsTrained += 1;
    this.#loss = { first: this.#loss?.first ?? loss, last: loss };
    for (const [task, last] of Object.entries(taskLoss))
      this.#taskLoss.set(task, { first: this.#taskLoss.get(task)?.first ?? last, last });
    this.#speeds.push(tokensPerSecond);
    this.#stepMs.push(ms.compute + ms.update);
  }

  onSkip(): void {
    this.#stepsSkipped += 1;
  }

  /** A generation was formed. @param predicted undefined where a member did not predict */
  onFormed(worldSize: number, predicted: PredictedRun | undefined): void {
    this.#worldSize = worldSize;
    if (predicted !== undefined) this.#predicted = predicted;
  }

  /**
   * @param step the committed one @param newest the newest checkpoint
   * @param workerBytes the most memory that a worker has reported, B
   */
  view(step: number, newest: CheckpointRef | undefined, workerBytes: number): RunSummaryView {
    return {
      step,
      savedStep: newest?.step ?? 0,
      stepsTrained: this.#stepsTrained,
      stepsSkipped: this.#stepsSkipped,
      ...(this.#loss === undefined ? {} : { loss: this.#loss }),
      taskLoss: Object.fromEntries([...this.#taskLoss].sort(([a], [b]) => (a < b ? -1 : 1))),
      tokensPerSecond: this.#speeds.length === 0 ? 0 : Math.round(median(this.#speeds)),
      worldSize: this.#worldSize,
      ...(this.#predicted === undefined || this.#stepMs.length === 0
        ? {}
        : { predicted: this.#predicted, measured: { stepMs: median(this.#stepMs), workerBytes } }),
      paramDigest: newest?.paramDigest ?? null,
      ...(newest === undefined ? {} : { checkpoint: newest.path }),
    };
  }
}

/**
 * The step of the slowest rank and the largest process that the members of a generation predict. Pure.
 * @param members in rank order @param runs their lanes
 * @returns undefined where a member did not predict
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
