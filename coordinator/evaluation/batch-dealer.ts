/**
 * Decides which worker evaluates which batch. Pure: no clock, no socket.
 *
 * A worker holds up to BATCHES_AHEAD batches and computes them in their order, so it does not wait for the next one. Batches of a lost worker
 * go to others, the smallest number first; a worker that joins gets of those that nobody holds. A batch that a worker failed at, or was lost with,
 * is tried again, at most MAX_ATTEMPTS times in all: a batch that kills every worker ends the evaluation.
 */
import { assertInvariant } from '../../shared/errors.ts';

/** Batches that a worker holds: one that it computes, and the next. */
const BATCHES_AHEAD = 2;
/** Times that a batch is tried. */
const MAX_ATTEMPTS = 3;

export interface GivenUpBatch {
  readonly batch: number;
  /** Of its last attempt. */
  readonly reason: string;
}

export class BatchDealer<Worker> {
  /** Batches that nobody holds, ascending. */
  #waiting: number[];
  /** In the order in which they were dealt; the first is computed now. */
  readonly #held = new Map<Worker, number[]>();
  readonly #numAttempts = new Map<number, number>();
  #givenUp: GivenUpBatch | undefined;

  /** @param batches numbers of those that are to be evaluated */
  constructor(batches: readonly number[]) {
    this.#waiting = [...batches].sort((a, b) => a - b);
  }

  /** Further batches of a plan that grows; their numbers are new. */
  add(batches: readonly number[]): void {
    this.#putBack(batches);
  }

  /** Whether the workers that have joined could hold more batches than wait for them: then more are wanted. */
  get isShort(): boolean {
    const numHeld = [...this.#held.values()].reduce((sum, { length }) => sum + length, 0);
    return this.#waiting.length + numHeld < BATCHES_AHEAD * this.#held.size;
  }

  /** Whether every batch has its result. */
  get isDone(): boolean {
    return this.#waiting.length === 0 && [...this.#held.values()].every(({ length }) => length === 0);
  }

  /** The first batch that has been tried too often; undefined while there is none. */
  get givenUp(): GivenUpBatch | undefined {
    return this.#givenUp;
  }

  /** Batches that the worker holds; the first is the one that it computes. */
  heldBy(worker: Worker): readonly number[] {
    return this.#held.get(worker) ?? [];
  }

  /** A worker may compute batches; `next` says which. */
  join(worker: Worker): void {
    if (!this.#held.has(worker)) this.#held.set(worker, []);
  }

  /** The next batch of a worker that has joined, now held by it; undefined: it holds enough, or all are held. */
  next(worker: Worker): number | undefined {
    const held = this.#held.get(worker);
    if (held === undefined || held.length >= BATCHES_AHEAD) return undefined;
    const batch = this.#waiting.shift();
    if (batch !== undefined) held.push(batch);
    return batch;
  }

  /** The result of a batch has come. @returns false where the worker does not hold the batch: the result is not needed */
  finish(worker: Worker, batch: number): boolean {
    return this.#take(worker, batch);
  }

  /** A worker has failed at a batch. */
  fail(worker: Worker, batch: number, reason: string): void {
    if (this.#take(worker, batch)) this.#giveBack([batch], batch, reason);
  }

  /** A worker is lost. Its batches wait again; the one that it computed has had an attempt. */
  leave(worker: Worker, reason: string): void {
    const held = this.heldBy(worker);
    this.#held.delete(worker);
    this.#giveBack(held, held[0], reason);
  }

  #take(worker: Worker, batch: number): boolean {
    const held = this.#held.get(worker);
    const at = held?.indexOf(batch) ?? -1;
    if (at === -1) return false;
    held!.splice(at, 1);
    return true;
  }

  /** @param tried the one of them that has had an attempt */
  #giveBack(batches: readonly number[], tried: number | undefined, reason: string): void {
    this.#putBack(batches);
    if (tried === undefined) return;
    const numAttempts = (this.#numAttempts.get(tried) ?? 0) + 1;
    this.#numAttempts.set(tried, numAttempts);
    if (numAttempts >= MAX_ATTEMPTS) this.#givenUp ??= { batch: tried, reason };
  }

  #putBack(batches: readonly number[]): void {
    for (const batch of batches) assertInvariant(!this.#waiting.includes(batch), `batch ${batch} waits twice`);
    this.#waiting = [...this.#waiting, ...batches].sort((a, b) => a - b);
  }
}
