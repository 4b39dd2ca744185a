/**
 * Decides which unit is made next, which member of a job array makes it, and what the death of a process means. Pure.
 *
 * The bytes of a unit do not depend on it. It only decides how soon all units exist and how soon an error is reported.
 */
import { TrainerError } from '../../shared/errors.ts';

/** A unit is given up after this many dead processes. */
export const MAX_ATTEMPTS = 3;

export interface QueuedUnit {
  readonly task: string;
  /** Number within its task. */
  readonly number: number;
  /** Source bytes, which stand for its cost. */
  readonly bytes: number;
}

/** Member `index` (from 1) of an array of `count` members. */
export interface Shard {
  readonly index: number;
  readonly count: number;
}

/** @param text `i/n`, 1 ≤ i ≤ n @throws CONFIG_INVALID */
export function parseShard(text: string): Shard {
  const match = /^(\d{1,6})\/(\d{1,6})$/u.exec(text);
  const [index, count] = [Number(match?.[1]), Number(match?.[2])];
  if (match === null || index < 1 || index > count)
    throw new TrainerError(
      'CONFIG_INVALID',
      `--shard: expected i/n with 1 ≤ i ≤ n, e.g. 1/3 for the first of three, found "${text}"`,
    );
  return { index, count };
}

/** Whether a member makes a unit. @param position of the unit among all units of the mixture, from 0 */
export function isAssigned(position: number, { index, count }: Shard): boolean {
  return position % count === index - 1;
}

/**
 * First one unit of each task, so that an unusable source is reported early. Then the largest first, so that all
 * processes end at about the same time.
 */
export function orderUnits<T extends QueuedUnit>(units: readonly T[]): T[] {
  const seen = new Set<string>();
  const first: T[] = [];
  const rest: T[] = [];
  for (const unit of units) {
    (seen.has(unit.task) ? rest : first).push(unit);
    seen.add(unit.task);
  }
  return [...first, ...rest.sort((a, b) => b.bytes - a.bytes)];
}

export class UnitQueue<T extends QueuedUnit> {
  #waiting: T[];
  readonly #deaths = new Map<T, number>();
  readonly #failed = new Set<string>();

  /** @param units in the order in which to start them */
  constructor(units: readonly T[]) {
    this.#waiting = [...units].reverse(); // next() pops from the end
  }

  /** The next unit. Undefined if none waits; a running unit may still come back. */
  next(): T | undefined {
    return this.#waiting.pop();
  }

  /** Its process died. @returns what happens to the unit */
  died(unit: T): 'again' | 'given up' {
    const deaths = (this.#deaths.get(unit) ?? 0) + 1;
    this.#deaths.set(unit, deaths);
    if (this.#failed.has(unit.task) || deaths >= MAX_ATTEMPTS) return 'given up';
    this.#waiting.push(unit);
    return 'again';
  }

  /** Starts no further unit of a task. Its running units may finish. */
  dropTask(task: string): void {
    this.#failed.add(task);
    this.#waiting = this.#waiting.filter((unit) => unit.task !== task);
  }
}
