/**
 * A position in the plan: the whole state of the mixture, JSON-safe, a few kilobytes.
 *
 * Definitions: the draws of a task are numbered from 0 in the order of the schedule; draw c is example π(epoch ⌊c/n⌋)(c
 * mod n). A draw is handed out when its row is. At the start of a window each task has `drawn`, the number of its next
 * draw, and `pending`, lower draws that an earlier plan did not hand out (carry-cursor.ts) and that come first. The
 * window uses `draws` of them: pending ones, then `drawn`, `drawn` + 1, …. `given` has one bit for each of these draws:
 * 1 = handed out.
 *
 * Window, row, credits, drawn and pending are enough to continue the plan. The other fields give the position of each
 * task without its lengths, for a changed mixture and for `exmix mixture show`.
 */
import * as z from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import { WEIGHT_SUM } from './draws.ts';

const count = z.int().min(0);

export const planCursorSchema = z.strictObject({
  /** Version of this layout. Version 1 had no tasks and cannot be moved to a changed mixture. */
  version: z.literal(2),
  /** Identifies the plan: fingerprintOf at this window. */
  fingerprint: z
    .int()
    .min(0)
    .max(2 ** 32 - 1),
  window: count,
  /** Rows of this window that were handed out. */
  row: count,
  /** Credits of the schedule at the start of the window: one integer for each task, |credit| < 2^48, adding up to 0. */
  credits: z.array(z.int().gt(-WEIGHT_SUM).lt(WEIGHT_SUM)),
  /** Number of each task's next draw at the start of the window. */
  drawn: z.array(count),
  /** Draws below `drawn` that are owed at the start of the window, in the order of use. [] for most tasks. */
  pending: z.array(z.array(count)),
  /** `drawn` − `shift` = draws so far. The numbers of a resized task continue in a new epoch (carry-cursor.ts). */
  shift: z.array(z.int()),
  /** Draws of each task in this window. */
  draws: z.array(count),
  /** Base64 of one bit for each draw of the window, by task and then in draw order, low bit first: 1 = handed out. */
  given: z.base64(),
  /** The tasks of the mixture in order, with their shares in this window. */
  tasks: z.array(z.strictObject({ name: z.string(), numExamples: count, share: z.number() })),
});
export type PlanCursor = z.infer<typeof planCursorSchema>;

/** The position of one task. */
export interface TaskPlace {
  readonly name: string;
  readonly numExamples: number;
  /** Share of all draws in this window. */
  readonly share: number;
  /** Draws handed out since the run began, or since the task was added. */
  readonly numGiven: number;
  /** Number of the next draw that is neither handed out nor in `owed`. */
  readonly next: number;
  /** Draws below `next` that were not handed out, in the order of use. */
  readonly owed: readonly number[];
}

/** Bytes for one bit for each draw. */
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
 * The position of each task of the cursor's mixture, from the cursor alone.
 * @throws CHECKPOINT_CORRUPT if its parts do not match
 */
export function locateTasks(cursor: PlanCursor): TaskPlace[] {
  checkShape(cursor);
  const bits = Buffer.from(cursor.given, 'base64');
  let firstBit = 0;
  return cursor.tasks.map((task, i) => {
    const drawn = cursor.drawn[i]!;
    const pending = cursor.pending[i]!;
    const given = drawn - pending.length - cursor.shift[i]!;
    // At the start of a window none of its draws was handed out, and they may be those of another plan.
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
 * @param fingerprint of the plan that is to continue
 * @throws MIXTURE_MISMATCH for a cursor of another plan, CHECKPOINT_CORRUPT if its parts do not match
 */
export function checkCursor(cursor: PlanCursor, fingerprint: number, numTasks: number): void {
  if (cursor.fingerprint !== fingerprint || cursor.tasks.length !== numTasks)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `mixture cursor: expected plan ${fingerprint} of ${numTasks} tasks, found plan ${cursor.fingerprint} of ${cursor.tasks.length}; seed, limits, window, rates and task sizes must be those that the run was started with`,
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
