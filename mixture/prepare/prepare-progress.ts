/**
 * Progress of a preparation: units, rows, tokens per second, time left. Pure: the time is an argument.
 *
 * Definition: rates cover the last RATE_WINDOW_MS. The time left is the remaining bytes divided by the rate of bytes.
 * Units that existed before count as done, but not for rates.
 */
import type { UnitProgress } from './ensure-unit.ts';
import type { UnitCounts } from './unit-counts.ts';

const RATE_WINDOW_MS = 20_000;
/** Largest number of samples in the window. */
const MAX_SAMPLES = 40;

export interface ProgressTask {
  readonly name: string;
  /** Source bytes of each unit that this process makes or checks. */
  readonly unitBytes: readonly number[];
}

export interface TaskSnapshot {
  readonly name: string;
  readonly state: 'waiting' | 'running' | 'done' | 'failed';
  readonly unitsDone: number;
  readonly numUnits: number;
  readonly bytesDone: number;
  readonly numBytes: number;
  readonly numRows: number;
  readonly numExamples: number;
  readonly numTokens: number;
  /** Undefined if nothing was made recently. */
  readonly tokensPerSecond?: number;
  /** Undefined if unknown. */
  readonly secondsLeft?: number;
}

export interface PrepareSnapshot {
  readonly tasks: readonly TaskSnapshot[];
  /** Sums over all tasks. Its name is empty. */
  readonly total: TaskSnapshot;
}

interface Amounts {
  bytes: number;
  rows: number;
  examples: number;
  tokens: number;
}

interface Sample {
  readonly atMs: number;
  readonly bytes: number;
  readonly tokens: number;
}

const nothing = (): Amounts => ({ bytes: 0, rows: 0, examples: 0, tokens: 0 });

export class PrepareProgress {
  readonly #tasks: readonly TaskTally[];
  readonly #byName: ReadonlyMap<string, TaskTally>;
  readonly #rate = new Rate();

  constructor(tasks: readonly ProgressTask[]) {
    this.#tasks = tasks.map((task) => new TaskTally(task));
    this.#byName = new Map(this.#tasks.map((task) => [task.name, task]));
  }

  /** Progress of a running unit. Bytes beyond the size of the unit do not count. */
  running(task: string, unit: number, unitBytes: number, progress: UnitProgress): void {
    const { bytesRead, numRows, numExamples, numTokens } = progress;
    const bytes = Math.min(bytesRead, unitBytes);
    this.#byName.get(task)?.running.set(unit, { bytes, rows: numRows, examples: numExamples, tokens: numTokens });
  }

  /** The process of a unit died, so its progress is lost. */
  lost(task: string, unit: number): void {
    this.#byName.get(task)?.running.delete(unit);
  }

  done(task: string, unit: number, unitBytes: number, counts: UnitCounts, isMade: boolean): void {
    this.#byName.get(task)?.done(unit, unitBytes, counts, isMade);
  }

  failed(task: string): void {
    const tally = this.#byName.get(task);
    if (tally !== undefined) tally.hasFailed = true;
  }

  snapshot(nowMs: number): PrepareSnapshot {
    const tasks = this.#tasks.map((task) => task.snapshot(nowMs));
    const sum = (pick: (task: TaskSnapshot) => number) => tasks.reduce((total, task) => total + pick(task), 0);
    const made = nothing();
    for (const task of this.#tasks) add(made, task.made());
    const numBytes = sum((task) => task.numBytes);
    const bytesDone = sum((task) => task.bytesDone);
    const isOver = tasks.every(({ state }) => state === 'done' || state === 'failed');
    const total: TaskSnapshot = {
      name: '',
      state: isOver ? 'done' : 'running',
      unitsDone: sum((task) => task.unitsDone),
      numUnits: sum((task) => task.numUnits),
      bytesDone,
      numBytes,
      numRows: sum((task) => task.numRows),
      numExamples: sum((task) => task.numExamples),
      numTokens: sum((task) => task.numTokens),
      ...this.#rate.measure(nowMs, made, numBytes - bytesDone),
    };
    return { tasks, total };
  }
}

class TaskTally {
  readonly name: string;
  readonly running = new Map<number, Amounts>();
  hasFailed = false;
  readonly #numUnits: number;
  readonly #numBytes: number;
  readonly #rate = new Rate();
  readonly #done = nothing();
  /** The part of `done` that was made now. */
  readonly #made = nothing();
  #unitsDone = 0;

  constructor({ name, unitBytes }: ProgressTask) {
    this.name = name;
    this.#numUnits = unitBytes.length;
    this.#numBytes = unitBytes.reduce((sum, bytes) => sum + bytes, 0);
  }

  done(unit: number, bytes: number, { rows, numExamples, numTokens }: UnitCounts, isMade: boolean): void {
    this.running.delete(unit);
    this.#unitsDone += 1;
    const amounts = { bytes, rows: rows.read, examples: numExamples, tokens: numTokens };
    add(this.#done, amounts);
    if (isMade) add(this.#made, amounts);
  }

  /** Amounts made now, running units included. */
  made(): Amounts {
    const made = { ...this.#made };
    for (const amounts of this.running.values()) add(made, amounts);
    return made;
  }

  snapshot(nowMs: number): TaskSnapshot {
    const seen = { ...this.#done };
    for (const amounts of this.running.values()) add(seen, amounts);
    const isDone = this.#unitsDone === this.#numUnits;
    const hasBegun = this.running.size > 0 || this.#unitsDone > 0;
    return {
      name: this.name,
      state: this.hasFailed ? 'failed' : isDone ? 'done' : hasBegun ? 'running' : 'waiting',
      unitsDone: this.#unitsDone,
      numUnits: this.#numUnits,
      bytesDone: seen.bytes,
      numBytes: this.#numBytes,
      numRows: seen.rows,
      numExamples: seen.examples,
      numTokens: seen.tokens,
      ...this.#rate.measure(nowMs, this.made(), this.#numBytes - seen.bytes),
    };
  }
}

/** Rates over the last samples. */
class Rate {
  #samples: Sample[] = [];

  measure(
    atMs: number,
    { bytes, tokens }: Amounts,
    bytesLeft: number,
  ): { tokensPerSecond?: number; secondsLeft?: number } {
    const last = this.#samples.at(-1);
    if (last === undefined || atMs - last.atMs >= RATE_WINDOW_MS / MAX_SAMPLES) {
      this.#samples.push({ atMs, bytes, tokens });
      while (this.#samples.length > 2 && atMs - this.#samples[1]!.atMs >= RATE_WINDOW_MS) this.#samples.shift();
    }
    const first = this.#samples[0]!;
    const seconds = (atMs - first.atMs) / 1000;
    if (seconds <= 0 || tokens <= first.tokens) return {};
    const bytesPerSecond = (bytes - first.bytes) / seconds;
    return {
      tokensPerSecond: (tokens - first.tokens) / seconds,
      ...(bytesPerSecond > 0 ? { secondsLeft: Math.max(0, bytesLeft) / bytesPerSecond } : {}),
    };
  }
}

function add(to: Amounts, amounts: Amounts): void {
  to.bytes += amounts.bytes;
  to.rows += amounts.rows;
  to.examples += amounts.examples;
  to.tokens += amounts.tokens;
}
