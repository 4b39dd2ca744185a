/**
 * Which checkpoints to keep: a pure rule over the steps that have a valid one.
 */
import { assertInvariant } from '../../shared/errors.ts';

export interface RetentionOptions {
  /** The newest this many are kept; at least 1. */
  readonly keepLast: number;
  /** Besides, every checkpoint whose step is a multiple of this is kept for good; absent: none. */
  readonly keepEvery?: number;
}

export interface RetentionEntry {
  readonly step: number;
  /** Why it is kept or removed. */
  readonly reason: string;
}

export interface RetentionPlan {
  /** Ascending by step. */
  readonly keep: readonly RetentionEntry[];
  /** Ascending by step: the oldest goes first. */
  readonly remove: readonly RetentionEntry[];
}

/**
 * What to delete of the checkpoints in a folder.
 * @param steps steps of the valid checkpoints, in any order, without repetition
 * @param inUse step → why it must stay whatever its age, e.g. `this run was resumed from it`
 * @throws INTERNAL for a keepLast below 1: a run without a checkpoint to go back to is never a plan
 */
export function planRetention(
  steps: readonly number[],
  options: RetentionOptions,
  inUse: ReadonlyMap<number, string> = new Map(),
): RetentionPlan {
  const { keepLast, keepEvery } = options;
  assertInvariant(Number.isSafeInteger(keepLast) && keepLast >= 1, `keepLast ${keepLast} is not a positive integer`);
  const ascending = [...steps].sort((a, b) => a - b);
  const firstOfNewest = ascending[Math.max(0, ascending.length - keepLast)] ?? 0;

  const keep: RetentionEntry[] = [];
  const remove: RetentionEntry[] = [];
  for (const step of ascending) {
    const use = inUse.get(step);
    if (use !== undefined) keep.push({ step, reason: use });
    else if (step >= firstOfNewest) keep.push({ step, reason: `one of the newest ${keepLast}` });
    else if (keepEvery !== undefined && step % keepEvery === 0)
      keep.push({ step, reason: `a multiple of ${keepEvery}` });
    else remove.push({ step, reason: removalReason(keepLast, keepEvery) });
  }
  return { keep, remove };
}

function removalReason(keepLast: number, keepEvery: number | undefined): string {
  const older = `older than the newest ${keepLast}`;
  return keepEvery === undefined ? older : `${older} and no multiple of ${keepEvery}`;
}
