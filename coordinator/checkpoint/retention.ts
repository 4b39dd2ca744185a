/**
 * Retention: a pure rule decides which checkpoints to keep; pruneCheckpoints removes the others. A reader that pinned one has links of its own to
 * its files (shared/checkpoint/pin.ts); pins whose process has ended are removed here too.
 */
import { assertInvariant } from '../../shared/errors.ts';
import { rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { syncFolder, toStorageError } from '../../shared/atomic-file.ts';
import { removingName } from '../../shared/checkpoint/layout.ts';
import { listCheckpointFolders } from '../../shared/checkpoint/read.ts';
import { verifyCheckpoint } from '../../shared/checkpoint/verify.ts';
import { removeAbandoned } from '../../shared/partial-folders.ts';
import { bestSteps, type ScoredStep } from './validation-score.ts';

export interface RetentionOptions {
  /** The newest checkpoints, this many, are kept; at least 1. */
  readonly keepLast: number;
  /** Checkpoints whose step is a multiple of this are kept for good; absent: none. */
  readonly keepEvery?: number;
  /** The best of the steps that are there stay, this many; absent: by age alone. */
  readonly keepBest?: {
    readonly metric: string;
    readonly count: number;
    /** All validations of the run. */
    readonly validations: readonly ScoredStep[];
  };
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
 * Plans the checkpoints to keep and to remove.
 * @param steps steps of the valid checkpoints, in any order, without repetition
 * @param inUse step → why it must stay at any age, e.g. `this run was resumed from it`
 * @throws INTERNAL for a keepLast below 1: a run always keeps a checkpoint to go back to
 */
export function planRetention(
  steps: readonly number[],
  options: RetentionOptions,
  inUse: ReadonlyMap<number, string> = new Map(),
): RetentionPlan {
  const { keepLast, keepEvery, keepBest } = options;
  assertInvariant(Number.isSafeInteger(keepLast) && keepLast >= 1, `keepLast ${keepLast} is not a positive integer`);
  const ascending = [...steps].sort((a, b) => a - b);
  const firstOfNewest = ascending[Math.max(0, ascending.length - keepLast)] ?? 0;

  const best = new Map<number, string>();
  if (keepBest !== undefined) {
    const { metric, count, validations } = keepBest;
    const there = validations.filter(({ step }) => steps.includes(step));
    for (const { step, value } of bestSteps(there, metric, count))
      best.set(step, `one of the best ${count} by ${metric} (${formatScore(value)})`);
  }

  const keep: RetentionEntry[] = [];
  const remove: RetentionEntry[] = [];
  for (const step of ascending) {
    const use = inUse.get(step);
    if (use !== undefined) keep.push({ step, reason: use });
    else if (step >= firstOfNewest) keep.push({ step, reason: `one of the newest ${keepLast}` });
    else if (keepEvery !== undefined && step % keepEvery === 0)
      keep.push({ step, reason: `a multiple of ${keepEvery}` });
    else if (best.has(step)) keep.push({ step, reason: best.get(step)! });
    else remove.push({ step, reason: removalReason(options) });
  }
  return { keep, remove };
}

function removalReason({ keepLast, keepEvery, keepBest }: RetentionOptions): string {
  return [
    `older than the newest ${keepLast}`,
    ...(keepEvery === undefined ? [] : [`no multiple of ${keepEvery}`]),
    ...(keepBest === undefined ? [] : [`not one of the best ${keepBest.count} by ${keepBest.metric}`]),
  ].join(' and ');
}

function formatScore(value: number): string {
  return String(Number(value.toPrecision(5)));
}

/**
 * Removes the checkpoints that retention does not keep. Folders that are not whole (by names and sizes) are neither counted nor touched.
 * @param inUse step → why it must stay
 * @returns the removed ones, with reasons @throws PATH_UNUSABLE
 */
export async function pruneCheckpoints(
  checkpointsFolder: string,
  options: RetentionOptions,
  inUse: ReadonlyMap<number, string>,
): Promise<readonly RetentionEntry[]> {
  const paths = new Map<number, string>();
  for (const { path, step } of await listCheckpointFolders(checkpointsFolder)) {
    const { problems } = await verifyCheckpoint(path, { depth: 'size' });
    if (problems.length === 0) paths.set(step, path);
  }
  const { remove } = planRetention([...paths.keys()], options, inUse);
  for (const { step } of remove) {
    await removeCheckpoint(paths.get(step)!, step);
  }
  // A pin of another user may stay: it costs space, and no run.
  await removeAbandoned(checkpointsFolder).catch(() => undefined);
  return remove;
}

/** Removes a published checkpoint. It vanishes by one rename, so no reader sees half of it. @throws PATH_UNUSABLE */
export async function removeCheckpoint(path: string, step: number): Promise<void> {
  const aside = join(dirname(path), removingName(step));
  try {
    await rm(aside, { recursive: true, force: true });
    await rename(path, aside);
    await syncFolder(dirname(path));
    await rm(aside, { recursive: true, force: true });
  } catch (error) {
    throw toStorageError(error, 'remove', path);
  }
}
