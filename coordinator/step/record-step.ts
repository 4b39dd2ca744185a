/**
 * From what was dealt and reported to what the ledger keeps of a step. The rows are those that were sent to the workers, decoded again:
 * the ledger does not ask the plan what it meant to deal.
 */
import { decodeRows } from '../../mixture/plan/planned-rows.ts';
import type { PlanCursor, TaskLengths } from '../../mixture/plan/planner.ts';
import type { StepSummary } from './open-steps.ts';
import type { StepDeal } from '../deal/step-dealer.ts';
import type { TaskFigures } from '../ledger/ledger-step.ts';
import type { LedgerWriter, SessionStart } from '../ledger/ledger-writer.ts';

/** What a committed step is written to. */
export type StepSink = Pick<LedgerWriter, 'append'>;

/** @param summary undefined: the step was skipped */
export type RecordStep = (summary: StepSummary | undefined, deal: StepDeal, generation: number) => Promise<void>;

const SKIPPED = { taskLoss: {} as StepSummary['taskLoss'], gradDigest: 0, loss: 0, gradNorm: 0, learningRate: 0 };

/** @returns resolves when the step is in the ledger, on disk @throws DISK_FULL, PATH_UNUSABLE */
export function createStepRecorder(ledger: StepSink, tasks: readonly TaskLengths[]): RecordStep {
  return async (summary, deal, generation) => {
    const kept = summary ?? SKIPPED;
    const lanes = deal.lanes.map(decodeRows);
    const figures = new Map<number, { numExamples: number; inputTokens: number; targetTokens: number }>();
    for (const { task, index } of lanes.flat(2)) {
      const sum = figures.get(task) ?? { numExamples: 0, inputTokens: 0, targetTokens: 0 };
      sum.numExamples += 1;
      sum.inputTokens += tasks[task]!.inputsLength(index);
      sum.targetTokens += tasks[task]!.targetsLength(index);
      figures.set(task, sum);
    }
    const ofTasks = [...figures]
      .sort(([a], [b]) => a - b)
      .map(([task, sums]): TaskFigures => {
        const loss = kept.taskLoss[tasks[task]!.name];
        return loss === undefined ? { task, ...sums } : { task, ...sums, loss };
      });
    const { gradDigest, loss, gradNorm, learningRate } = kept;
    const { step } = deal;
    const facts = { step, generation, gradDigest, loss, gradNorm, learningRate };
    await ledger.append({ ...facts, tasks: ofTasks, lanes }, lowestDraws(deal.cursor));
  };
}

/** What a session starts from, as the ledger tells it. */
export function sessionStart(
  start: {
    readonly step: number;
    readonly cursor?: PlanCursor;
    /** Of this step or an earlier one. */
    readonly checkpoint?: { readonly step: number; readonly path: string };
  },
  numTasks: number,
): SessionStart {
  const { step, cursor, checkpoint } = start;
  return {
    step,
    bases: cursor === undefined ? new Array<number>(numTasks).fill(0) : lowestDraws(cursor),
    isInsideWindow: cursor !== undefined && (cursor.row > 0 || cursor.pending.some((owed) => owed.length > 0)),
    ...(checkpoint?.step === step ? { checkpoint: checkpoint.path } : {}),
  };
}

/** Of each task the lowest draw that was still to come at the start of the cursor's window. */
function lowestDraws({ drawn, pending }: PlanCursor): number[] {
  return drawn.map((next, task) => pending[task]!.reduce((a, b) => Math.min(a, b), next));
}
