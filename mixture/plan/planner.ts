/**
 * The mixture plan: the one endless sequence of rows that a run trains on, whatever the number of workers.
 *
 * Definition: draws come in windows of `windowDraws`. Window w is: the next draws of the schedule (draws.ts), shuffled by
 * (seed, w); draw number c of a task is its example π(seed, task, ⌊c/n⌋)(c mod n) (permutation.ts); the examples are packed into
 * rows from their lengths (packing.ts); the rows are shuffled by (seed, w), so that the sparse last ones do not stand together.
 * A window closes its rows: nothing is carried into the next, so a place in the plan is (window, row in it) and the counters at the
 * window's start. Resuming plans that window again, tens of milliseconds.
 *
 * Assumptions: lengths never change for the same (seed, tasks); `TaskLengths` answers at once, from memory.
 */

import * as z from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import { computeWeights, drawTasks, WEIGHT_SUM } from './draws.ts';
import { packRows } from './packing.ts';
import { createPermutation } from './permutation.ts';
import type { PlannedRow } from './planned-rows.ts';

export interface TaskLengths {
  readonly name: string;
  readonly numExamples: number;
  /** Tokens of an example with EOS, ≥ 1 and ≤ the limit; for denoising, those after corruption. */
  inputsLength(index: number): number;
  targetsLength(index: number): number;
}

export interface PlanConfig {
  readonly seed: number;
  /** Tokens a row has room for, EOS included. */
  readonly inputsLimit: number;
  readonly targetsLimit: number;
  /** Draws planned and packed together: larger fills rows better and takes longer to resume. */
  readonly windowDraws: number;
  /** Share of all draws of each task, in the order of the tasks; adds up to 1. */
  readonly shares: readonly number[];
}

/** A place in the plan. JSON-safe; the whole state of the mixture. */
export const planCursorSchema = z.strictObject({
  /** Which plan this is a place of: a hash of everything that decides the order. */
  fingerprint: z
    .int()
    .min(0)
    .max(2 ** 32 - 1),
  window: z.int().min(0),
  /** Rows of this window already handed out. */
  row: z.int().min(0),
  /** Credits of the schedule at the window's start, one integer per task, |credit| < 2^48, adding up to 0. */
  credits: z.array(z.int().gt(-WEIGHT_SUM).lt(WEIGHT_SUM)),
  /** Draws per task before this window. */
  drawn: z.array(z.int().min(0)),
});
export type PlanCursor = z.infer<typeof planCursorSchema>;

interface WindowStart {
  readonly window: number;
  readonly credits: Float64Array;
  readonly drawn: Float64Array;
}

interface Window {
  readonly start: WindowStart;
  readonly next: WindowStart;
  /** Rows in their final order: row r holds the examples starts[r] to starts[r + 1] − 1 of the three arrays. */
  readonly starts: Int32Array;
  readonly tasks: Int32Array;
  readonly indexes: Int32Array;
  readonly epochs: Int32Array;
}

/** Hands out the rows of the plan in order, from the beginning or from a cursor. */
export class Planner {
  readonly #config: PlanConfig;
  readonly #tasks: readonly TaskLengths[];
  readonly #taskKeys: readonly number[];
  readonly #weights: Float64Array;
  readonly #fingerprint: number;
  #window: Window;
  #row: number;

  /**
   * @param cursor continues after the row at which it was taken; without it, from the first row
   * @throws CONFIG_INVALID, MIXTURE_MISMATCH (a cursor of another plan; an example over the limits), SHARD_CORRUPT
   */
  constructor(config: PlanConfig, tasks: readonly TaskLengths[], cursor?: PlanCursor) {
    checkConfig(config, tasks);
    this.#config = config;
    this.#tasks = tasks;
    this.#taskKeys = tasks.map(({ name }) => hashName(name));
    this.#weights = computeWeights(config.shares);
    this.#fingerprint = fingerprintOf(config, tasks);
    if (cursor !== undefined) checkCursor(cursor, this.#fingerprint, tasks.length);
    this.#window = this.#planWindow({
      window: cursor?.window ?? 0,
      credits: Float64Array.from(cursor?.credits ?? tasks.map(() => 0)),
      drawn: Float64Array.from(cursor?.drawn ?? tasks.map(() => 0)),
    });
    this.#row = cursor?.row ?? 0;
    if (this.#row >= this.#numRows())
      throw new TrainerError(
        'MIXTURE_MISMATCH',
        `mixture cursor: window ${this.#window.start.window} has ${this.#numRows()} rows, the cursor stands after row ${this.#row}; the shards are not those the run was started with`,
      );
  }

  /** The next `numRows` rows; how many are asked for at a time does not change them. */
  nextRows(numRows: number): PlannedRow[] {
    const rows: PlannedRow[] = [];
    while (rows.length < numRows) {
      rows.push(readRow(this.#window, this.#row));
      this.#row += 1;
      if (this.#row === this.#numRows()) {
        this.#window = this.#planWindow(this.#window.next);
        this.#row = 0;
      }
    }
    return rows;
  }

  /** The place after the last row handed out. */
  cursor(): PlanCursor {
    const { window, credits, drawn } = this.#window.start;
    return {
      fingerprint: this.#fingerprint,
      window,
      row: this.#row,
      credits: Array.from(credits),
      drawn: Array.from(drawn),
    };
  }

  #numRows(): number {
    return this.#window.starts.length - 1;
  }

  #planWindow(start: WindowStart): Window {
    const { seed, windowDraws } = this.#config;
    const credits = start.credits.slice();
    const draws = drawTasks(this.#weights, credits, windowDraws);
    new RandomStream([seed, hashName('draw-order'), start.window]).shuffle(draws);
    const { indexes, epochs, drawn } = this.#chooseExamples(draws, start.drawn);
    const inputs = Int32Array.from(draws, (task, i) => this.#tasks[task]!.inputsLength(indexes[i]!));
    const targets = Int32Array.from(draws, (task, i) => this.#tasks[task]!.targetsLength(indexes[i]!));
    const nameOf = (i: number) => `task ${this.#tasks[draws[i]!]!.name} example ${indexes[i]!}`;
    const packed = packRows(inputs, targets, this.#config, nameOf);
    const numRows = packed.starts.length - 1;
    const rowOrder = Int32Array.from({ length: numRows }, (_, row) => row);
    new RandomStream([seed, hashName('row-order'), start.window]).shuffle(rowOrder);
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
      next: { window: start.window + 1, credits, drawn },
      starts,
      tasks: members.map((i) => draws[i]!),
      indexes: members.map((i) => indexes[i]!),
      epochs: members.map((i) => epochs[i]!),
    };
  }

  #chooseExamples(
    draws: Int32Array,
    drawnBefore: Float64Array,
  ): { indexes: Int32Array; epochs: Int32Array; drawn: Float64Array } {
    const drawn = drawnBefore.slice();
    const indexes = new Int32Array(draws.length);
    const epochs = new Int32Array(draws.length);
    const orders = new Map<number, { epoch: number; permute: (k: number) => number }>();
    draws.forEach((task, i) => {
      const count = drawn[task]!;
      const { numExamples } = this.#tasks[task]!;
      const epoch = Math.floor(count / numExamples);
      let order = orders.get(task);
      if (order?.epoch !== epoch) {
        const names = [this.#config.seed, hashName('example-order'), this.#taskKeys[task]!, epoch];
        order = { epoch, permute: createPermutation(names, numExamples) };
        orders.set(task, order);
      }
      indexes[i] = order.permute(count - epoch * numExamples);
      epochs[i] = epoch;
      drawn[task] = count + 1;
    });
    return { indexes, epochs, drawn };
  }
}

/**
 * A cursor at the start of a window, moved to a plan with other shares, limits or window: every task goes on where it was in its
 * epoch, and the schedule starts anew with no credit. The tasks must be the same ones, with the same examples and seed.
 * @throws CONFIG_INVALID where the cursor stands inside a window (train to its end first) or the tasks are not as many
 */
export function rebaseCursor(cursor: PlanCursor, config: PlanConfig, tasks: readonly TaskLengths[]): PlanCursor {
  checkConfig(config, tasks);
  if (cursor.row !== 0 || cursor.drawn.length !== tasks.length)
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture: a plan can change only between two windows and with the same tasks; found row ${cursor.row} of window ${cursor.window}, ${cursor.drawn.length} tasks before and ${tasks.length} now; wait for the next window`,
    );
  return { ...cursor, fingerprint: fingerprintOf(config, tasks), credits: tasks.map(() => 0) };
}

function readRow(window: Window, row: number): PlannedRow {
  const first = window.starts[row]!;
  return Array.from({ length: window.starts[row + 1]! - first }, (_, i) => ({
    task: window.tasks[first + i]!,
    index: window.indexes[first + i]!,
    epoch: window.epochs[first + i]!,
  }));
}

function fingerprintOf(config: PlanConfig, tasks: readonly TaskLengths[]): number {
  const { seed, inputsLimit, targetsLimit, windowDraws, shares } = config;
  const names = tasks.map(({ name, numExamples }) => [name, numExamples]);
  return hashName(JSON.stringify([seed, inputsLimit, targetsLimit, windowDraws, shares, names]));
}

function checkConfig(config: PlanConfig, tasks: readonly TaskLengths[]): void {
  for (const field of ['inputsLimit', 'targetsLimit', 'windowDraws'] as const) {
    const value = config[field];
    if (!Number.isInteger(value) || value < 1)
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture: ${field}: expected a whole number of at least 1, found ${value}`,
      );
  }
  if (!Number.isSafeInteger(config.seed) || config.seed < 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture: seed: expected a whole number from 0 to 2^53 - 1, found ${config.seed}`,
    );
  if (config.shares.length !== tasks.length)
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture: expected one share for each of ${tasks.length} tasks, found ${config.shares.length}`,
    );
  tasks.forEach(({ name, numExamples }, task) => {
    if (config.shares[task]! > 0 && !(Number.isInteger(numExamples) && numExamples >= 1))
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture: task ${name} has a share of ${config.shares[task]!} but ${numExamples} examples; prepare it again or set its rate to 0`,
      );
  });
}

function checkCursor(cursor: PlanCursor, fingerprint: number, numTasks: number): void {
  if (cursor.fingerprint !== fingerprint || cursor.drawn.length !== numTasks || cursor.credits.length !== numTasks)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `mixture cursor: expected plan ${fingerprint} of ${numTasks} tasks, found plan ${cursor.fingerprint} of ${cursor.drawn.length}; seed, limits, window, rates and task sizes must be those the run was started with`,
    );
  const sum = cursor.credits.reduce((a, b) => a + b, 0);
  if (sum !== 0)
    throw new TrainerError('CHECKPOINT_CORRUPT', `mixture cursor: expected credits that add up to 0, found ${sum}`);
}
