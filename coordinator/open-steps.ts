/**
 * The open steps: who has reported what, and when a step is complete. A step commits when every rank has reported it and all
 * gradient checksums agree. Pure state over messages: no clock, no socket, no file.
 *
 * Step n is the n-th update: it takes a state at step n - 1 to a state at step n.
 */
import { TrainerError } from '../shared/errors.ts';
import { treeSum } from '../shared/lane-tree.ts';
import type { LaneSums, StepTimes, WorkerMessage } from '../shared/protocol/messages.ts';

export type StepReport = Extract<WorkerMessage, { kind: 'report' }>;

/** What the coordinator dealt for a step. */
export interface DealtStep {
  readonly step: number;
  readonly learningRate: number;
  /** Target tokens over all lanes: the divisor of the gradient. */
  readonly targetTokens: number;
}

/** A complete step, ready for the journal and the log. Losses are means over target tokens, in nats. */
export interface StepSummary extends DealtStep {
  readonly loss: number;
  readonly zLoss: number;
  readonly taskLoss: Readonly<Record<string, number>>;
  readonly taskTokens: Readonly<Record<string, number>>;
  /** L2 norm of the mean gradient. */
  readonly gradNorm: number;
  /** CRC-32 of the summed gradient. */
  readonly gradDigest: number;
  readonly inputTokens: number;
  /** Times of the rank that computed longest. */
  readonly ms: StepTimes;
  readonly slowestRank: number;
}

interface OpenStep {
  readonly dealt: DealtStep;
  readonly reports: (StepReport | undefined)[];
}

export class OpenSteps {
  readonly #open = new Map<number, OpenStep>();
  readonly #taskNames: readonly string[];
  readonly #numLanes: number;
  readonly #worldSize: number;

  constructor(init: { taskNames: readonly string[]; numLanes: number; worldSize: number }) {
    this.#taskNames = init.taskNames;
    this.#numLanes = init.numLanes;
    this.#worldSize = init.worldSize;
  }

  /** Steps dealt and not yet complete. */
  get numOpen(): number {
    return this.#open.size;
  }

  /** Opens a step; nothing where it is open. */
  deal(dealt: DealtStep): void {
    if (this.#open.has(dealt.step)) return;
    this.#open.set(dealt.step, { dealt, reports: Array.from({ length: this.#worldSize }, () => undefined) });
  }

  hasReported(rank: number, step: number): boolean {
    return this.#open.get(step)?.reports[rank] !== undefined;
  }

  /** Ranks whose report of an open step is missing. */
  missingRanks(step: number): number[] {
    const reports = this.#open.get(step)?.reports ?? [];
    return reports.flatMap((report, rank) => (report === undefined ? [rank] : []));
  }

  /**
   * Takes one rank's report.
   * @returns the summary once all ranks have reported this step
   * @throws MESSAGE_INVALID for a step that is not open or was reported before, GRADIENT_DIVERGED where checksums differ
   */
  report(rank: number, report: StepReport): StepSummary | undefined {
    const open = this.#open.get(report.step);
    if (open === undefined)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `rank ${rank} reports step ${report.step}, which is not open (${this.#describeOpen()})`,
      );
    if (open.reports[rank] !== undefined)
      throw new TrainerError('MESSAGE_INVALID', `rank ${rank} reports step ${report.step} a second time`);
    const earlier = [...this.#open].find(([step, { reports }]) => step < report.step && reports[rank] === undefined);
    if (earlier !== undefined)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `rank ${rank} reports step ${report.step} before step ${earlier[0]}; reports come in order`,
      );
    const other = open.reports.findIndex((known) => known !== undefined && known.gradDigest !== report.gradDigest);
    if (other >= 0) {
      const [a, b] = [open.reports[other]!.gradDigest, report.gradDigest].map(formatDigest);
      const message = `step ${report.step}: rank ${other} has gradient ${a}, rank ${rank} has ${b}; nothing of this step is kept`;
      throw new TrainerError('GRADIENT_DIVERGED', message);
    }
    open.reports[rank] = report;
    const reports = open.reports.filter((entry) => entry !== undefined);
    if (reports.length < this.#worldSize) return undefined;
    const summary = this.#summariseWhole(open.dealt, reports);
    this.#open.delete(report.step);
    return summary;
  }

  /**
   * Closes a step from the reports that came, where the others never will: losses are those of the reported lanes.
   * @returns undefined where no rank has reported it
   */
  settle(step: number): StepSummary | undefined {
    const open = this.#open.get(step);
    const reports = open?.reports.filter((report) => report !== undefined) ?? [];
    if (open === undefined || reports.length === 0) return undefined;
    this.#open.delete(step);
    return this.#summarise(
      open.dealt,
      reports,
      sortLanes(reports, this.#numLanes, step).filter((lane) => lane !== undefined),
    );
  }

  #summariseWhole(dealt: DealtStep, reports: readonly StepReport[]): StepSummary {
    const lanes = sortLanes(reports, this.#numLanes, dealt.step);
    const missing = lanes.findIndex((lane) => lane === undefined);
    if (missing >= 0) throw new TrainerError('MESSAGE_INVALID', `step ${dealt.step}: nobody reported lane ${missing}`);
    const complete = lanes.filter((lane) => lane !== undefined);
    const total = sum(complete.flatMap(({ tasks }) => tasks.map(({ targetTokens }) => targetTokens)));
    if (total !== dealt.targetTokens)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `step ${dealt.step}: ${dealt.targetTokens} target tokens were dealt, ${total} were reported; the prepared mixtures differ`,
      );
    return this.#summarise(dealt, reports, complete);
  }

  #summarise(dealt: DealtStep, reports: readonly StepReport[], complete: readonly LaneSums[]): StepSummary {
    const { losses, tokens } = this.#sumTasks(complete);
    const total = sum(tokens);
    const present = this.#taskNames.map((name, task) => ({ name, task })).filter(({ task }) => tokens[task]! > 0);
    const slowest = reports.reduce((a, b) => (b.ms.compute > a.ms.compute ? b : a));
    return {
      ...dealt,
      loss: treeSum(complete.map(({ tasks }) => sum(tasks.map(({ loss }) => loss)))) / total,
      zLoss: treeSum(complete.map(({ zLoss }) => zLoss)) / total,
      taskLoss: Object.fromEntries(present.map(({ name, task }) => [name, losses[task]! / tokens[task]!])),
      taskTokens: Object.fromEntries(present.map(({ name, task }) => [name, tokens[task]!])),
      gradNorm: Math.sqrt(reports[0]!.gradSumOfSquares) / dealt.targetTokens,
      gradDigest: reports[0]!.gradDigest,
      inputTokens: sum(complete.map(({ inputTokens }) => inputTokens)),
      ms: slowest.ms,
      slowestRank: reports.indexOf(slowest),
    };
  }

  /** Loss sums and target tokens per task, added over lanes in the canonical tree. */
  #sumTasks(lanes: readonly LaneSums[]): { losses: number[]; tokens: number[] } {
    const numTasks = this.#taskNames.length;
    const losses = Array.from({ length: numTasks }, () => new Array<number>(lanes.length).fill(0));
    const tokens = new Array<number>(numTasks).fill(0);
    for (const [lane, { tasks }] of lanes.entries()) {
      for (const { task, loss, targetTokens } of tasks) {
        const row = losses[task];
        if (row === undefined)
          throw new TrainerError('MESSAGE_INVALID', `lane ${lane} reports task ${task} of ${numTasks}`);
        row[lane] = loss;
        tokens[task] = tokens[task]! + targetTokens;
      }
    }
    return { losses: losses.map(treeSum), tokens };
  }

  #describeOpen(): string {
    return this.#open.size === 0 ? 'none is' : `open: ${[...this.#open.keys()].join(', ')}`;
  }
}

/** The reported lanes in their order, undefined where one is missing. */
function sortLanes(reports: readonly StepReport[], numLanes: number, step: number): (LaneSums | undefined)[] {
  const lanes: (LaneSums | undefined)[] = Array.from({ length: numLanes }, () => undefined);
  for (const sums of reports.flatMap((report) => report.lanes)) {
    if (sums.lane >= numLanes || lanes[sums.lane] !== undefined)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `step ${step}: lane ${sums.lane} is reported twice or is not one of ${numLanes}`,
      );
    lanes[sums.lane] = sums;
  }
  return lanes;
}

/** CRC-32 as eight hex digits, the form of the log. */
export function formatDigest(digest: number): string {
  return digest.toString(16).padStart(8, '0');
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
