/**
 * Fills free slots with dealt microbatches. All free slots are filled at the same time, so that a slow source gets all requests at once;
 * microbatches are handed over in the order dealt, so that its delays decide nothing.
 *
 * The first failure, in its microbatch's turn, ends the feed: a feed that skipped a microbatch would train on other examples than dealt.
 */
import type { PlannedRow } from '../../mixture/plan/planned-rows.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { BatchPlace } from './feed-messages.ts';

export interface DealtMicrobatch extends BatchPlace {
  readonly rows: readonly PlannedRow[];
  /** Number of drops before its deal. */
  readonly numDrops: number;
}

/** Writes rows into a slot; nothing is written after the signal has fired. @returns input tokens */
export type FillSlot = (slot: number, rows: readonly PlannedRow[], signal: AbortSignal) => Promise<number>;

export interface FilledMicrobatch extends BatchPlace {
  readonly slot: number;
  readonly inputTokens: number;
  readonly numDrops: number;
}

export interface BatchFillerInit {
  readonly numSlots: number;
  readonly onFilled: (batch: FilledMicrobatch) => void;
  /** Called once; nothing follows. */
  readonly onFailed: (error: TrainerError) => void;
}

interface Filling {
  readonly batch: DealtMicrobatch;
  readonly slot: number;
  outcome?: { readonly inputTokens: number } | { readonly error: TrainerError };
}

export class BatchFiller {
  readonly #init: BatchFillerInit;
  readonly #freeSlots: number[];
  #fill: FillSlot | undefined;
  /** Bounded by the steps dealt ahead. */
  #dealt: DealtMicrobatch[] = [];
  /** In the order dealt; at most one for each slot. */
  #filling: Filling[] = [];
  #calledOff = new AbortController();
  #hasFailed = false;

  constructor(init: BatchFillerInit) {
    this.#init = init;
    this.#freeSlots = Array.from({ length: init.numSlots }, (_, slot) => slot);
  }

  /** The source is open: `fill` fills microbatches from now on. */
  begin(fill: FillSlot): void {
    this.#fill = fill;
    this.#startFilling();
  }

  deal(batches: readonly DealtMicrobatch[]): void {
    this.#dealt.push(...batches);
    this.#startFilling();
  }

  /** The compute thread has released a slot. */
  free(slot: number): void {
    this.#freeSlots.push(slot);
    this.#startFilling();
  }

  /** Drops every microbatch that is dealt and not handed over. */
  drop(): void {
    this.#dealt = [];
    // The abort guarantees that nothing writes to their slots any more.
    this.#calledOff.abort(new TrainerError('ABORTED', 'the deal was dropped'));
    this.#calledOff = new AbortController();
    this.#freeSlots.push(...this.#filling.map(({ slot }) => slot));
    this.#filling = [];
  }

  /** Ends the feed with a failure that belongs to no microbatch. */
  fail(error: TrainerError): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#calledOff.abort(error);
    this.#init.onFailed(error);
  }

  #startFilling(): void {
    const fill = this.#fill;
    while (!this.#hasFailed && fill !== undefined && this.#dealt.length > 0 && this.#freeSlots.length > 0) {
      const filling: Filling = { batch: this.#dealt.shift()!, slot: this.#freeSlots.shift()! };
      this.#filling.push(filling);
      void this.#fillOne(filling, fill, this.#calledOff.signal);
    }
  }

  async #fillOne(filling: Filling, fill: FillSlot, signal: AbortSignal): Promise<void> {
    const { batch, slot } = filling;
    try {
      filling.outcome = { inputTokens: await fill(slot, batch.rows, signal) };
    } catch (thrown) {
      const { code, message } = toTrainerError(thrown);
      const place = `feed of step ${batch.step} lane ${batch.lane} microbatch ${batch.microbatch}`;
      filling.outcome = { error: new TrainerError(code, `${place}: ${message}`, { cause: thrown }) };
    }
    if (!signal.aborted) this.#handOver();
  }

  #handOver(): void {
    for (let head = this.#filling[0]; head?.outcome !== undefined && !this.#hasFailed; head = this.#filling[0]) {
      if ('error' in head.outcome) {
        this.fail(head.outcome.error);
        return;
      }
      this.#filling.shift();
      const { step, lane, microbatch, numDrops } = head.batch;
      const { inputTokens } = head.outcome;
      this.#init.onFilled({ step, lane, microbatch, numDrops, slot: head.slot, inputTokens });
    }
  }
}
