/**
 * A cursor moved to a changed mixture: tasks added, removed, of another size, or other shares, limits or window.
 *
 * Rules. A task of the same name and size goes on where it was: what the old plan had drawn and not yet handed out is owed to it and
 * comes first, so over its epoch each example still comes exactly once. A task of another size begins its next epoch (a number
 * that no example has had yet). A new task begins its first one; a removed one is forgotten. The new plan begins with a new window,
 * numbered after the old one, and without credit.
 */
import type { PlanCursor, TaskPlace } from './plan-cursor.ts';
import { locateTasks } from './plan-cursor.ts';
import { checkPlanConfig, fingerprintOf, sharesAt, type PlanConfig, type TaskLengths } from './plan-config.ts';

export interface TaskChange {
  readonly name: string;
  readonly change: 'added' | 'removed' | 'resized';
  /** Examples before and now; 0 where the mixture has no such task. */
  readonly numBefore: number;
  readonly numNow: number;
}

/** What a mixture differs in from the one of a cursor, by names and sizes; nothing where only contents or rates do. */
export function compareTasks(
  before: readonly Pick<TaskPlace, 'name' | 'numExamples'>[],
  now: readonly Pick<TaskPlace, 'name' | 'numExamples'>[],
): TaskChange[] {
  const sizesBefore = new Map(before.map(({ name, numExamples }) => [name, numExamples]));
  const names = new Set(now.map(({ name }) => name));
  const changed = now.flatMap(({ name, numExamples }): TaskChange[] => {
    const numBefore = sizesBefore.get(name);
    if (numBefore === numExamples) return [];
    return [
      { name, change: numBefore === undefined ? 'added' : 'resized', numBefore: numBefore ?? 0, numNow: numExamples },
    ];
  });
  const removed = before
    .filter(({ name }) => !names.has(name))
    .map(({ name, numExamples }) => ({ name, change: 'removed' as const, numBefore: numExamples, numNow: 0 }));
  return [...changed, ...removed];
}

/** The first window of the plan that goes on after a cursor with another mixture. */
export function carriedWindow({ window, row }: PlanCursor): number {
  return row === 0 ? window : window + 1;
}

/**
 * The cursor at which a plan with another config or other tasks goes on. Ask the user first: the order is another one from here.
 * @throws CONFIG_INVALID for the config, CHECKPOINT_CORRUPT for the cursor
 */
export function carryCursor(cursor: PlanCursor, config: PlanConfig, tasks: readonly TaskLengths[]): PlanCursor {
  checkPlanConfig(config, tasks);
  const window = carriedWindow(cursor);
  const before = new Map(locateTasks(cursor).map((place) => [place.name, place]));
  const starts = tasks.map(({ name, numExamples }) => startOf(before.get(name), numExamples));
  const shares = sharesAt(config, window);
  return {
    version: 2,
    fingerprint: fingerprintOf(config, tasks, window),
    window,
    row: 0,
    credits: tasks.map(() => 0),
    drawn: starts.map(({ drawn }) => drawn),
    pending: starts.map(({ pending }) => pending),
    shift: starts.map(({ shift }) => shift),
    draws: tasks.map(() => 0),
    given: '',
    tasks: tasks.map(({ name, numExamples }, i) => ({ name, numExamples, share: shares[i]! })),
  };
}

interface TaskStart {
  readonly drawn: number;
  readonly pending: number[];
  readonly shift: number;
}

function startOf(place: TaskPlace | undefined, numExamples: number): TaskStart {
  if (place === undefined) return { drawn: 0, pending: [], shift: 0 };
  const { next, owed, numGiven } = place;
  if (place.numExamples === numExamples)
    return { drawn: next, pending: [...owed], shift: next - owed.length - numGiven };
  // Epochs that were begun, if only by a draw that is owed: their numbers are not used again.
  const epochsBegun = place.numExamples === 0 ? 0 : Math.ceil(next / place.numExamples);
  const drawn = epochsBegun * numExamples;
  return { drawn, pending: [], shift: drawn - numGiven };
}
