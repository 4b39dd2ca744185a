/** A small run for tests of the ledger: its plan, the record of each step, and a journal and ledger as a coordinator writes them. */
import { join } from 'node:path';
import { encodeRows } from '../../mixture/plan/planned-rows.ts';
import { Planner, type PlanCursor } from '../../mixture/plan/planner.ts';
import { Journal } from '../journal/journal.ts';
import type { DiskSpace } from '../run-folder/disk-space.ts';
import { LedgerWriter, sessionStart } from './ledger-writer.ts';
import type { Lanes, StepFigures, StepToRecord } from './step-record.ts';

const SEED = 11;
export const TASKS = [
  { name: 'short', numExamples: 5, inputsLength: () => 2, targetsLength: () => 1 },
  { name: 'long', numExamples: 400, inputsLength: (i: number) => 2 + (i % 9), targetsLength: () => 3 },
  { name: 'text', numExamples: 5000, inputsLength: () => 16, targetsLength: () => 4 },
];
const PLAN = { seed: SEED, inputsLimit: 16, targetsLimit: 8, windowDraws: 40, shares: [0.2, 0.5, 0.3] };
const HEX = 'ab'.repeat(32);

/** A step with its rows still decoded. */
export interface PlannedStep extends StepFigures {
  readonly lanes: Lanes;
}

export interface SmallRun {
  readonly folder: string;
  readonly epoch: number;
  /** Commits the steps up to and including this one. */
  train(to: number): Promise<void>;
  /** Ends the session as a kill would, or in order. */
  stop(how: 'killed' | 'in order'): Promise<void>;
  readonly ledger: LedgerWriter;
  readonly journal: Journal;
}

export interface SessionInit {
  /** The step that the session starts from; default: the last committed one. */
  readonly from?: number;
  /** Changes a step in the ledger, not in the journal. */
  readonly edit?: (step: PlannedStep) => PlannedStep;
  /** For journal and ledger. */
  readonly diskSpace?: DiskSpace;
}

/** The plan's rows of a step, 2 lanes of 2 rows, and the cursor after it. */
export function dealt(step: number): { lanes: Lanes; cursor: PlanCursor } {
  const planner = new Planner(PLAN, TASKS);
  planner.nextRows(4 * (step - 1));
  const rows = planner.nextRows(4);
  return { lanes: [rows.slice(0, 2), rows.slice(2)], cursor: planner.cursor() };
}

export function recordOf(step: number): StepToRecord {
  return encoded(plannedStep(step));
}

export function encoded(step: PlannedStep): StepToRecord {
  return { ...step, lanes: step.lanes.map(encodeRows) };
}

export function plannedStep(step: number): PlannedStep {
  const { lanes } = dealt(step);
  const present = [...new Set(lanes.flat(2).map(({ task }) => task))].sort((a, b) => a - b);
  const tasks = present.map((task) => {
    const own = lanes.flat(2).filter((example) => example.task === task);
    const inputTokens = own.reduce((sum, { index }) => sum + TASKS[task]!.inputsLength(index), 0);
    const targetTokens = own.length * TASKS[task]!.targetsLength();
    return { task, numExamples: own.length, inputTokens, targetTokens, loss: 3 - task + 1 / step };
  });
  const facts = { step, generation: 1, gradDigest: 1000 + step, loss: 8 / step, gradNorm: 0.5, learningRate: 0.01 };
  return { ...facts, tasks, lanes };
}

/** Opens the next session of the run in a folder. */
export async function openSession(
  folder: string,
  { from, edit = (step) => step, diskSpace }: SessionInit = {},
): Promise<SmallRun> {
  const waiting = diskSpace === undefined ? {} : { diskSpace };
  const { journal } = await Journal.open(join(folder, 'journal'), waiting);
  const start = from ?? journal.state.step;
  const epoch = journal.state.epoch + 1;
  const { ledger } = await LedgerWriter.open({
    folder: join(folder, 'ledger'),
    epoch,
    seed: SEED,
    mixtureHash: HEX,
    tasks: TASKS,
    start: sessionStart(start === 0 ? { step: 0 } : { step: start, cursor: dealt(start).cursor }, TASKS.length),
    committed: { epoch: journal.state.epoch, step: journal.state.step },
    ...waiting,
  });
  await journal.append({ kind: 'run-opened', epoch, configHash: HEX, seed: SEED, mixtureHash: HEX, step: start });
  const train = async (to: number): Promise<void> => {
    for (let step = journal.state.step + 1; step <= to; step++) {
      const record = plannedStep(step);
      const { cursor } = dealt(step);
      await ledger.append(encoded(edit(record)));
      const { gradDigest, loss } = record;
      const place = { fingerprint: cursor.fingerprint, window: cursor.window, row: cursor.row };
      await journal.append({ kind: 'step-committed', epoch, generation: 1, step, cursor: place, gradDigest, loss });
    }
  };
  const stop = async (how: 'killed' | 'in order'): Promise<void> => {
    if (how === 'in order') await ledger.close();
    await journal.close();
  };
  return { folder, epoch, train, stop, ledger, journal };
}
