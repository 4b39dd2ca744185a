/**
 * A place in the plan: the whole state of the mixture, JSON-safe, a few kilobytes.
 *
 * Definitions. The draws of a task are numbered from 0 in the order of the schedule; draw c is example π(epoch ⌊c/n⌋)(c mod n). A draw
 * is handed out when its row is. At a window's start each task has `drawn`, the number of its next draw, and `pending`, draws below
 * it that an earlier plan left over (carry-cursor.ts) and that come first. The window takes `draws` of them: pending ones, then
 * `drawn`, `drawn` + 1, …; `given` says which of these have been handed out, one bit a draw.
 *
 * A plan goes on from window, row, credits, drawn and pending alone. The other fields say where each task stands without the plan's
 * lengths: what a changed mixture and `exmix mixture show` need.
 */
import * as z from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import { WEIGHT_SUM } from './draws.ts';

const count = z.int().min(0);

export const planCursorSchema = z.strictObject({
  /** Of this layout; version 1 had no tasks and cannot be moved to a changed mixture. */
  version: z.literal(2),
  /** Which plan this is a place of: fingerprintOf at this window. */
  fingerprint: z
    .int()
    .min(0)
    .max(2 ** 32 - 1),
  window: count,
  /** Rows of this window already handed out. */
  row: count,
  /** Credits of the schedule at the window's start, one integer per task, |credit| < 2^48, adding up to 0. */
  credits: z.array(z.int().gt(-WEIGHT_SUM).lt(WEIGHT_SUM)),
  /** Number of each task's next draw at the window's start. */
  drawn: z.array(count),
  /** Draws below `drawn` that are still owed at the window's start, in the order they will be taken; [] for most tasks. */
  pending: z.array(z.array(count)),
  /** `drawn` − `shift` = draws taken so far: the numbers of a task whose size changed go on in a new epoch (carry-cursor.ts). */
  shift: z.array(z.int()),
  /** Draws of each task in this window. */
  draws: z.array(count),
  /** Base64 of one bit a draw of the window, by task and then in the order of its draws, low bit first: 1 = handed out. */
  given: z.base64(),
  /** The tasks of the mixture, in its order, with the shares that hold in this window. */
  tasks: z.array(z.strictObject({ name: z.string(), numExamples: count, share: z.number() })),
});
export type PlanCursor = z.infer<typeof planCursorSchema>;

/** Where one task stands. */
export interface TaskPlace {
  readonly name: string;
  readonly numExamples: number;
  /** Share of all draws in this window. */
  readonly share: number;
  /** Draws handed out since the run began (or since the task was added). */
  readonly numGiven: number;
  /** Number of the next draw that has neither been handed out nor is in `owed`. */
  readonly next: number;
  /** Draws below `next` that have not been handed out, in the order they will be taken. */
  readonly owed: readonly number[];
}

/** Bytes that hold one bit a draw. */
export function makeBits(numDraws: number): Uint8Array {
  return new Uint8Array(Math.ceil(numDraws / 8));
}

export function setBit(bits: Uint8Array, place: number): void {
  bits[place >> 3] = bits[place >> 3]! | (1 << (place & 7));
}

function hasBit(bits: Uint8Array, place: number): boolean {
  return (bits[place >> 3]! & (1 << (place & 7))) !== 0;
}

/**
 * Where each task of the cursor's mixture stands, from the cursor alone.
 * @throws CHECKPOINT_CORRUPT where its parts do not fit together
 */
export function locateTasks(cursor: PlanCursor): TaskPlace[] {
  checkShape(cursor);
  const bits = Buffer.from(cursor.given, 'base64');
  let firstBit = 0;
  return cursor.tasks.map((task, i) => {
    const drawn = cursor.drawn[i]!;
    const pending = cursor.pending[i]!;
    const given = drawn - pending.length - cursor.shift[i]!;
    // At a window's start none of its draws has been handed out, and they need not be this plan's.
    if (cursor.row === 0) return { ...task, numGiven: given, next: drawn, owed: pending };
    const numDraws = cursor.draws[i]!;
    const owed: number[] = [];
    for (let k = 0; k < numDraws; k++)
      if (!hasBit(bits, firstBit + k)) owed.push(pending[k] ?? drawn + k - pending.length);
    firstBit += numDraws;
    const numGiven = given + numDraws - owed.length;
    const next = drawn + Math.max(0, numDraws - pending.length);
    return { ...task, numGiven, next, owed: [...owed, ...pending.slice(numDraws)] };
  });
}

/**
 * @param fingerprint of the plan that is to go on
 * @throws MIXTURE_MISMATCH for a cursor of another plan, CHECKPOINT_CORRUPT for one whose parts do not fit together
 */
export function checkCursor(cursor: PlanCursor, fingerprint: number, numTasks: number): void {
  if (cursor.fingerprint !== fingerprint || cursor.tasks.length !== numTasks)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `mixture cursor: expected plan ${fingerprint} of ${numTasks} tasks, found plan ${cursor.fingerprint} of ${cursor.tasks.length}; seed, limits, window, rates and task sizes must be those the run was started with`,
    );
  checkShape(cursor);
}

function checkShape(cursor: PlanCursor): void {
  const { tasks, credits, drawn, pending, shift, draws, given } = cursor;
  const fail = (expected: string, found: string | number): never => {
    throw new TrainerError(
      'CHECKPOINT_CORRUPT',
      `mixture cursor: expected ${expected}, found ${found}; resume from another checkpoint`,
    );
  };
  for (const [name, list] of Object.entries({ credits, drawn, pending, shift, draws }))
    if (list.length !== tasks.length) fail(`${name} of ${tasks.length} tasks`, list.length);
  const sum = credits.reduce((a, b) => a + b, 0);
  if (sum !== 0) fail('credits that add up to 0', sum);
  pending.forEach((numbers, i) => {
    if (numbers.some((number) => number >= drawn[i]!)) fail(`pending draws below ${drawn[i]!}`, numbers.join());
    if (drawn[i]! - shift[i]! < numbers.length) fail(`at most ${drawn[i]! - shift[i]!} pending draws`, numbers.length);
  });
  const numDraws = draws.reduce((a, b) => a + b, 0);
  const numBytes = Buffer.from(given, 'base64').length;
  if (numBytes !== Math.ceil(numDraws / 8)) fail(`bits of ${numDraws} draws`, `${numBytes} B`);
}
