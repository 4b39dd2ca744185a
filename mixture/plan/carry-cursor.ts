/**
 * Moves a cursor to a changed mixture: tasks added, removed or resized, or other shares, limits or window.
 *
 * Rules: a task with the same name and size continues at its position. The draws that the old plan had made but not
 * handed out are owed to it and come first, so each example still comes exactly once in its epoch. A task of another
 * size begins its next epoch, whose number no example has had. A new task begins its first epoch; a removed task is
 * forgotten. The new plan begins with a new window, numbered after the old one, with all credits 0.
 */
import type { PlanCursor, TaskPlace } from './plan-cursor.ts';
import { locateTasks } from './plan-cursor.ts';
import { checkPlanConfig, fingerprintOf, sharesAt, type PlanConfig, type TaskLengths } from './plan-config.ts';

export interface TaskChange {
  readonly name: string;
  readonly change: 'added' | 'removed' | 'resized';
  /** Examples before and now. 0 if the mixture has no such task. */
  readonly numBefore: number;
  readonly numNow: number;
}

/** The differences between two mixtures by names and sizes. Empty if only contents or rates differ. */
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

/** The first window of the new plan after a cursor. */
export function carriedWindow({ window, row }: PlanCursor): number {
  return row === 0 ? window : window + 1;
}

/**
 * The cursor at which a plan with another config or other tasks continues. Ask the user first: from here the order
 * changes.
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
  // Epochs that have begun, also by an owed draw: their numbers are not used again.
  const epochsBegun = place.numExamples === 0 ? 0 : Math.ceil(next / place.numExamples);
  const drawn = epochsBegun * numExamples;
  return { drawn, pending: [], shift: drawn - numGiven };
}
