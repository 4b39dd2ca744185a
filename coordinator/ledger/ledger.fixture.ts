/** A small run for tests of the ledger: its plan, the record of each step, and a journal and ledger as a coordinator would write them. */
import { join } from 'node:path';
import type { PlannedExample } from '../../mixture/plan/planned-rows.ts';
import { Planner, type PlanCursor } from '../../mixture/plan/planner.ts';
import { Journal } from '../journal/journal.ts';
import type { RoomOnDisk } from '../run-folder/room-on-disk.ts';
import type { Lanes, StepToRecord } from './ledger-step.ts';
import { LedgerWriter } from './ledger-writer.ts';
import { sessionStart } from '../step/record-step.ts';

const SEED = 11;
export const TASKS = [
  { name: 'short', numExamples: 5, inputsLength: () => 2, targetsLength: () => 1 },
  { name: 'long', numExamples: 400, inputsLength: (i: number) => 2 + (i % 9), targetsLength: () => 3 },
  { name: 'text', numExamples: 5000, inputsLength: () => 16, targetsLength: () => 4 },
];
const PLAN = { seed: SEED, inputsLimit: 16, targetsLimit: 8, windowDraws: 40, shares: [0.2, 0.5, 0.3] };
const HEX = 'ab'.repeat(32);

export interface SmallRun {
  readonly folder: string;
  readonly epoch: number;
  /** Commits steps up to and with this one. */
  train(to: number): Promise<void>;
  /** Ends the session as a kill would, or in order. */
  stop(how: 'killed' | 'in order'): Promise<void>;
  /** What the plan deals for a step, and where it stands after it. */
  readonly ledger: LedgerWriter;
  readonly journal: Journal;
}

export interface SessionInit {
  /** Updates in the parameters that the session starts from; default: where the journal is. */
  readonly from?: number;
  /** Changes what the ledger is told of a step, not what the journal is. */
  readonly edit?: (step: StepToRecord) => StepToRecord;
  /** For journal and ledger. */
  readonly room?: RoomOnDisk;
}

/** The plan's rows of a step, 2 lanes of 2 rows, and the cursor after it. */
export function dealt(step: number): { lanes: Lanes<PlannedExample>; cursor: PlanCursor } {
  const planner = new Planner(PLAN, TASKS);
  planner.nextRows(4 * (step - 1));
  const rows = planner.nextRows(4);
  return { lanes: [rows.slice(0, 2), rows.slice(2)], cursor: planner.cursor() };
}

export function recordOf(step: number): StepToRecord {
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

/** Opens a session of the run in a folder, the first or a later one. */
export async function openSession(
  folder: string,
  { from, edit = (step) => step, room }: SessionInit = {},
): Promise<SmallRun> {
  const waiting = room === undefined ? {} : { room };
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
      const record = recordOf(step);
      const { cursor } = dealt(step);
      await ledger.append(edit(record), cursor.drawn);
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
