/**
 * The mixture plan: the single endless sequence of rows that a run trains on, for any number of workers.
 *
 * Definition: draws come in windows of `windowDraws`. Window w has the next draws of the schedule (draws.ts), shuffled
 * by (seed, w). Draw number c of a task is its example π(seed, task, ⌊c/n⌋)(c mod n) (permutation.ts). The examples are
 * packed into rows from their lengths (packing.ts). The rows are shuffled by (seed, w), so that the sparse last rows
 * are not together. A window closes its rows: nothing moves to the next window. So a position in the plan is (window,
 * row in it) and the counters at the start of the window. A resume plans that window again, which takes tens of
 * milliseconds.
 *
 * Assumptions: lengths never change for the same (seed, tasks). `TaskLengths` answers from memory.
 */
import { TrainerError } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import { computeWeights, drawTasks } from './draws.ts';
import { packRows } from './packing.ts';
import { createPermutation, exampleOrderNames } from './permutation.ts';
import {
  checkPlanConfig,
  checkShares,
  fingerprintOf,
  sharesAt,
  type PlanConfig,
  type SharesChange,
  type TaskLengths,
} from './plan-config.ts';
import { checkCursor, makeBits, setBit, type PlanCursor } from './plan-cursor.ts';
import type { PlannedRow } from './planned-rows.ts';

export type { PlanConfig, SharesChange, TaskLengths } from './plan-config.ts';
export type { PlanCursor } from './plan-cursor.ts';

interface WindowStart {
  readonly window: number;
  readonly credits: Float64Array;
  /** Number of each task's next draw. */
  readonly drawn: Float64Array;
  /** Lower draws that come first. */
  readonly pending: readonly (readonly number[])[];
}

/** The draws of a window as arrays, in the order of the draws. */
interface Draws {
  readonly tasks: Int32Array;
  readonly indexes: Int32Array;
  readonly epochs: Int32Array;
  /** Index of a draw in the window, by task and then in the order of the task's draws. */
  readonly places: Int32Array;
}

interface Window {
  readonly start: WindowStart;
  readonly next: WindowStart;
  /** Draws of each task. */
  readonly counts: Int32Array;
  /** Rows in their final order: row r has the examples starts[r] to starts[r + 1] − 1 of `draws`. */
  readonly starts: Int32Array;
  readonly draws: Draws;
  /** Bits by `places`: 1 = handed out. */
  readonly given: Uint8Array;
}

/** Hands out the rows of the plan in order, from the start or from a cursor. */
export class Planner {
  #config: PlanConfig;
  readonly #tasks: readonly TaskLengths[];
  readonly #shift: readonly number[];
  #window: Window;
  #row = 0;

  /**
   * @param cursor continues after the row at which it was taken; without it, the plan starts at the first row
   * @throws CONFIG_INVALID, MIXTURE_MISMATCH (a cursor of another plan; an example over the limits), SHARD_CORRUPT,
   * CHECKPOINT_CORRUPT
   */
  constructor(config: PlanConfig, tasks: readonly TaskLengths[], cursor?: PlanCursor) {
    checkPlanConfig(config, tasks);
    this.#config = config;
    this.#tasks = tasks;
    this.#shift = cursor?.shift ?? tasks.map(() => 0);
    if (cursor !== undefined) checkCursor(cursor, fingerprintOf(config, tasks, cursor.window), tasks.length);
    this.#window = this.#planWindow({
      window: cursor?.window ?? 0,
      credits: Float64Array.from(cursor?.credits ?? tasks.map(() => 0)),
      drawn: Float64Array.from(cursor?.drawn ?? tasks.map(() => 0)),
      pending: cursor?.pending ?? tasks.map(() => []),
    });
    const row = cursor?.row ?? 0;
    if (row >= this.#numRows())
      throw new TrainerError(
        'MIXTURE_MISMATCH',
        `mixture cursor: window ${this.#window.start.window} has ${this.#numRows()} rows, but the cursor is after row ${row}; the shards are not those that the run was started with`,
      );
    while (this.#row < row) this.#nextRow();
  }

  /** The config, with all changes so far. */
  get config(): PlanConfig {
    return this.#config;
  }

  /** The next `numRows` rows. The number of rows in a call does not change the rows. */
  nextRows(numRows: number): PlannedRow[] {
    const rows: PlannedRow[] = [];
    while (rows.length < numRows) {
      rows.push(this.#nextRow());
      if (this.#row < this.#numRows()) continue;
      this.#window = this.#planWindow(this.#window.next);
      this.#row = 0;
    }
    return rows;
  }

  /**
   * The first window that is not planned yet, and the number of rows before it. Shares can change there at the
   * earliest.
   */
  nextWindow(): { readonly window: number; readonly rowsBefore: number } {
    return { window: this.#window.next.window, rowsBefore: this.#numRows() - this.#row };
  }

  /**
   * Changes the shares from a window on that is not planned yet. The rows equal those of a planner that had the change
   * from the start. The change replaces earlier changes of that window and of later ones.
   * @throws CONFIG_INVALID for the shares, or for a window that is already planned
   */
  changeShares({ window, shares }: SharesChange): void {
    checkShares(shares, this.#tasks);
    computeWeights(shares);
    if (!Number.isSafeInteger(window) || window < this.#window.next.window)
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture: shares can change from window ${this.#window.next.window} on; window ${window} is already planned`,
      );
    const earlier = (this.#config.changes ?? []).filter((change) => change.window < window);
    this.#config = { ...this.#config, changes: [...earlier, { window, shares }] };
  }

  /** The position after the last row that was handed out. */
  cursor(): PlanCursor {
    const { start, counts, given } = this.#window;
    const { window, credits, drawn, pending } = start;
    const shares = sharesAt(this.#config, window);
    return {
      version: 2,
      fingerprint: fingerprintOf(this.#config, this.#tasks, window),
      window,
      row: this.#row,
      credits: Array.from(credits),
      drawn: Array.from(drawn),
      pending: pending.map((numbers) => [...numbers]),
      shift: [...this.#shift],
      draws: Array.from(counts),
      given: Buffer.from(given).toString('base64'),
      tasks: this.#tasks.map(({ name, numExamples }, task) => ({ name, numExamples, share: shares[task]! })),
    };
  }

  #numRows(): number {
    return this.#window.starts.length - 1;
  }

  #nextRow(): PlannedRow {
    const { starts, draws, given } = this.#window;
    const row: { task: number; index: number; epoch: number }[] = [];
    for (let i = starts[this.#row]!; i < starts[this.#row + 1]!; i++) {
      setBit(given, draws.places[i]!);
      row.push({ task: draws.tasks[i]!, index: draws.indexes[i]!, epoch: draws.epochs[i]! });
    }
    this.#row += 1;
    return row;
  }

  #planWindow(begin: WindowStart): Window {
    const { seed, windowDraws, changes = [] } = this.#config;
    const { window } = begin;
    // A change of shares resets the credits.
    const isNew = changes.some((change) => change.window === window);
    const start = isNew ? { ...begin, credits: new Float64Array(this.#tasks.length) } : begin;
    const credits = start.credits.slice();
    const order = drawTasks(computeWeights(sharesAt(this.#config, window)), credits, windowDraws);
    new RandomStream([seed, hashName('draw-order'), window]).shuffle(order);
    const { draws, counts, drawn, pending } = this.#chooseExamples(order, start);
    const inputs = order.map((task, i) => this.#tasks[task]!.inputsLength(draws.indexes[i]!));
    const targets = order.map((task, i) => this.#tasks[task]!.targetsLength(draws.indexes[i]!));
    const nameOf = (i: number) => `task ${this.#tasks[order[i]!]!.name} example ${draws.indexes[i]!}`;
    const packed = packRows(inputs, targets, this.#config, nameOf);
    const numRows = packed.starts.length - 1;
    const rowOrder = Int32Array.from({ length: numRows }, (_, row) => row);
    new RandomStream([seed, hashName('row-order'), window]).shuffle(rowOrder);
    const starts = new Int32Array(numRows + 1);
    const members = new Int32Array(windowDraws);
    for (let row = 0; row < numRows; row++) {
      const from = rowOrder[row]!;
      const rowMembers = packed.members.subarray(packed.starts[from], packed.starts[from + 1]);
      members.set(rowMembers, starts[row]);
      starts[row + 1] = starts[row]! + rowMembers.length;
    }
    return {
      start,
      next: { window: window + 1, credits, drawn, pending },
      counts,
      starts,
      draws: {
        tasks: members.map((i) => draws.tasks[i]!),
        indexes: members.map((i) => draws.indexes[i]!),
        epochs: members.map((i) => draws.epochs[i]!),
        places: members.map((i) => draws.places[i]!),
      },
      given: makeBits(windowDraws),
    };
  }

  /** The example of each draw: first the owed draws of its task, then the next ones in its order. */
  #chooseExamples(
    tasks: Int32Array,
    start: WindowStart,
  ): Pick<WindowStart, 'drawn' | 'pending'> & { draws: Draws; counts: Int32Array } {
    const counts = new Int32Array(this.#tasks.length);
    for (const task of tasks) counts[task] = counts[task]! + 1;
    const nextPlace = new Int32Array(counts.length);
    for (let task = 1; task < counts.length; task++) nextPlace[task] = nextPlace[task - 1]! + counts[task - 1]!;
    const drawn = start.drawn.slice();
    const numUsed = new Int32Array(counts.length);
    const indexes = new Int32Array(tasks.length);
    const epochs = new Int32Array(tasks.length);
    const places = new Int32Array(tasks.length);
    const orders = new Map<number, { epoch: number; permute: (k: number) => number }>();
    tasks.forEach((task, i) => {
      const owed = start.pending[task]![numUsed[task]!];
      const count = owed ?? drawn[task]!;
      if (owed === undefined) drawn[task] = count + 1;
      numUsed[task] = numUsed[task]! + 1;
      const { name, numExamples } = this.#tasks[task]!;
      const epoch = Math.floor(count / numExamples);
      let order = orders.get(task);
      if (order?.epoch !== epoch) {
        const names = exampleOrderNames(this.#config.seed, name, epoch);
        order = { epoch, permute: createPermutation(names, numExamples) };
        orders.set(task, order);
      }
      indexes[i] = order.permute(count - epoch * numExamples);
      epochs[i] = epoch;
      places[i] = nextPlace[task]!;
      nextPlace[task] = nextPlace[task]! + 1;
    });
    const pending = start.pending.map((numbers, task) =>
      numbers.length === 0 ? numbers : numbers.slice(counts[task]),
    );
    return { draws: { tasks, indexes, epochs, places }, counts, drawn, pending };
  }
}
