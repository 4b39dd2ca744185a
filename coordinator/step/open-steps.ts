/**
 * The open steps of a generation: collects the reports of its ranks, and judges a step when all have reported it. Pure: no clock, no socket,
 * no file.
 *
 * Definition: a step is open from its deal until all ranks have reported it. Step n is the n-th update: from a state at step n - 1 to one at n.
 */
import { TrainerError } from '../../shared/errors.ts';
import { judgeDigests, type DigestReport, type DigestVerdict, formatDigest } from './divergence.ts';
import { treeSum } from '../../shared/lane-tree.ts';
import type { LaneSums, StepTimes, StepReport } from '../../shared/protocol/messages.ts';
import type { DealHeader } from '../deal/step-dealer.ts';

/** A complete step, ready for the journal and the log. Losses are means over target tokens, in nats. */
export interface StepSummary extends DealHeader {
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

/** A step with the reports of its ranks. Where ranks differ, the summary has the gradient of more than half of them. */
export interface ReportedStep extends StepSummary {
  /** Of the ranks that have reported, in their order. */
  readonly digests: readonly DigestReport[];
  readonly verdict: DigestVerdict;
  /** Times of the ranks that have reported, in their order. */
  readonly rankMs: readonly StepTimes[];
}

interface OpenStep {
  readonly dealt: DealHeader;
  readonly reports: (StepReport | undefined)[];
  numMissing: number;
}

export class OpenSteps {
  readonly #open = new Map<number, OpenStep>();
  readonly #taskNames: readonly string[];
  readonly #numLanes: number;
  readonly #worldSize: number;
  readonly #provesState: (step: number) => boolean;

  /** @param init.provesState whether the reports of a step carry a digest of the parameters */
  constructor(init: {
    taskNames: readonly string[];
    numLanes: number;
    worldSize: number;
    provesState?: (step: number) => boolean;
  }) {
    this.#taskNames = init.taskNames;
    this.#numLanes = init.numLanes;
    this.#worldSize = init.worldSize;
    this.#provesState = init.provesState ?? (() => false);
  }

  /** Steps dealt and not yet complete. */
  get numOpen(): number {
    return this.#open.size;
  }

  /** Opens a step, unless it is open. */
  open(dealt: DealHeader): void {
    if (this.#open.has(dealt.step)) return;
    const numMissing = this.#worldSize;
    this.#open.set(dealt.step, { dealt, reports: Array.from({ length: numMissing }, () => undefined), numMissing });
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
   * Receives one rank's report.
   * @returns the step once all ranks have reported it. It is closed then, unless no gradient has a majority
   * @throws MESSAGE_INVALID for a step that is not open, a second report, one out of order, or one that lacks the digest of the parameters
   */
  receive(rank: number, report: StepReport): ReportedStep | undefined {
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
    if (this.#provesState(report.step) && report.paramDigest === undefined)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `rank ${rank} reports step ${report.step} without the digest of its parameters, which the deal asked for`,
      );
    open.reports[rank] = report;
    open.numMissing -= 1;
    if (open.numMissing > 0) return undefined;
    const reports = open.reports.filter((entry) => entry !== undefined);
    return this.#judge(open, this.#checkWhole(open.dealt, reports));
  }

  /**
   * Closes a step with the reports it has, where the others will never come: losses are those of the reported lanes.
   * @returns undefined where no rank has reported it
   */
  closePartial(step: number): ReportedStep | undefined {
    const open = this.#open.get(step);
    const reports = open?.reports.filter((report) => report !== undefined) ?? [];
    if (open === undefined || reports.length === 0) return undefined;
    const lanes = sortLanes(reports, this.#numLanes, step).filter((lane) => lane !== undefined);
    return this.#judge(open, lanes);
  }

  #judge({ dealt, reports }: OpenStep, lanes: readonly LaneSums[]): ReportedStep {
    const known = reports.flatMap((report, rank) => (report === undefined ? [] : [{ rank, report }]));
    const provesState = this.#provesState(dealt.step);
    const digests = known.map(({ rank, report: { gradDigest, paramDigest } }) => {
      const digest = formatDigest(gradDigest);
      return { rank, digest: provesState ? `${digest} with parameters ${paramDigest}` : digest };
    });
    const verdict = judgeDigests(digests);
    const isRight = (i: number): boolean => verdict.kind !== 'outliers' || digests[i]!.digest === verdict.majority;
    const right = known.filter((_, i) => isRight(i)).map(({ report }) => report);
    const all = known.map(({ report }) => report);
    if (verdict.kind !== 'no-majority') this.#open.delete(dealt.step);
    return { ...this.#summarise(dealt, all, right[0]!, lanes), digests, verdict, rankMs: all.map(({ ms }) => ms) };
  }

  /** The lanes of a step, checked against its deal. @throws MESSAGE_INVALID */
  #checkWhole(dealt: DealHeader, reports: readonly StepReport[]): readonly LaneSums[] {
    const lanes = sortLanes(reports, this.#numLanes, dealt.step);
    const missing = lanes.findIndex((lane) => lane === undefined);
    if (missing >= 0) throw new TrainerError('MESSAGE_INVALID', `step ${dealt.step}: no rank reported lane ${missing}`);
    const complete = lanes.filter((lane) => lane !== undefined);
    const total = sum(complete.flatMap(({ tasks }) => tasks.map(({ targetTokens }) => targetTokens)));
    if (total !== dealt.targetTokens)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `step ${dealt.step}: ${dealt.targetTokens} target tokens were dealt, ${total} were reported; the prepared mixtures differ`,
      );
    return complete;
  }

  /** @param right a report with the step's gradient */
  #summarise(
    dealt: DealHeader,
    reports: readonly StepReport[],
    right: StepReport,
    complete: readonly LaneSums[],
  ): StepSummary {
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
      gradNorm: Math.sqrt(right.gradSumOfSquares) / dealt.targetTokens,
      gradDigest: right.gradDigest,
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

/** The reported lanes in their order; undefined where one is missing. */
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

/** Whether the reports of a step carry a digest of the parameters after it. */
export function isProven(step: number, { proveEverySteps }: { readonly proveEverySteps: number }): boolean {
  return proveEverySteps > 0 && step % proveEverySteps === 0;
}

function sum(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0);
}
