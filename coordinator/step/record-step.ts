/**
 * Records a committed or skipped step in the ledger: its summary, tokens of each task, and the dealt rows, byte for byte as the workers
 * were sent them.
 */
import { decodeRows } from '../../mixture/plan/planned-rows.ts';
import type { TaskLengths } from '../../mixture/plan/planner.ts';
import type { StepSummary } from './open-steps.ts';
import type { Deal } from '../deal/step-dealer.ts';
import type { LedgerWriter } from '../ledger/ledger-writer.ts';
import type { TaskFigures } from '../ledger/step-record.ts';

/** The ledger, as far as steps are written to it. */
export type StepSink = Pick<LedgerWriter, 'append'>;

/** @param summary undefined: the step was skipped */
export type RecordStep = (summary: StepSummary | undefined, deal: Deal, generation: number) => Promise<void>;

const SKIPPED = { taskLoss: {} as StepSummary['taskLoss'], gradDigest: 0, loss: 0, gradNorm: 0, learningRate: 0 };

/** @returns resolves when the step is in the ledger, on disk @throws DISK_FULL, PATH_UNUSABLE */
export function createStepRecorder(ledger: StepSink, tasks: readonly TaskLengths[]): RecordStep {
  return async (summary, deal, generation) => {
    const kept = summary ?? SKIPPED;
    const figures = new Map<number, { numExamples: number; inputTokens: number; targetTokens: number }>();
    for (const { task, index } of deal.lanes.flatMap(decodeRows).flat()) {
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
    const { step, lanes } = deal;
    await ledger.append({ step, generation, gradDigest, loss, gradNorm, learningRate, tasks: ofTasks, lanes });
  };
}
