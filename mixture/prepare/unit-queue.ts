/**
 * Which unit is made next, by whom in a job array, and what the death of a process means. Pure: no clock, no files.
 *
 * The bytes of a unit do not depend on any of this; it only decides how soon all are there and how soon a mistake is told.
 */
import { TrainerError } from '../../shared/errors.ts';

/** A unit dies with at most this many processes before it is given up. */
export const MAX_ATTEMPTS = 3;

export interface QueuedUnit {
  readonly task: string;
  /** In its task. */
  readonly number: number;
  /** Of the source; what it costs. */
  readonly bytes: number;
}

/** Member `index` (from 1) of an array of `count`. */
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

/** Whether a unit is dealt to a shard. @param position of the unit among all units of the mixture, from 0 */
export function isDealt(position: number, { index, count }: Shard): boolean {
  return position % count === index - 1;
}

/**
 * First one unit of each task, so that a source that cannot be used is told early; then the largest first, so that all processes
 * end at about the same time.
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

  /** @param units in the order in which they are to be started */
  constructor(units: readonly T[]) {
    this.#waiting = [...units].reverse(); // taken from the end
  }

  /** The next unit; undefined where none waits, though one that runs may come back. */
  take(): T | undefined {
    return this.#waiting.pop();
  }

  /** The process that had it is gone. @returns what becomes of it */
  died(unit: T): 'again' | 'given up' {
    const deaths = (this.#deaths.get(unit) ?? 0) + 1;
    this.#deaths.set(unit, deaths);
    if (this.#failed.has(unit.task) || deaths >= MAX_ATTEMPTS) return 'given up';
    this.#waiting.push(unit);
    return 'again';
  }

  /** Nothing more is started of a task. Its running units may end. */
  dropTask(task: string): void {
    this.#failed.add(task);
    this.#waiting = this.#waiting.filter((unit) => unit.task !== task);
  }
}
