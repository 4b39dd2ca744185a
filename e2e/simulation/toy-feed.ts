/** A Feed without a thread: turns dealt rows into microbatches after some virtual time, in order. A bounded number is in use at once. */
import { createBatchArrays, fillRow } from '../../mixture/feed/batch.ts';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { decodeRows, type PlannedRow } from '../../mixture/plan/planned-rows.ts';
import type { Clock } from '../../shared/clock.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import type { Feed, FilledBatch } from '../../worker/feed/feed.ts';
import type { BatchPlace, LaneRows } from '../../worker/feed/feed-messages.ts';

/** Microbatches in use: returned by `next` and not yet released. */
const MAX_IN_USE = 8;

/** The part of Feed that a worker and its step runner use. */
export type FeedLike = Pick<Feed, 'opened' | 'deal' | 'drop' | 'next' | 'release' | 'stop'>;

export interface ToyFeedInit {
  readonly mixture: PreparedMixture;
  readonly seed: number;
  readonly microbatchRows: number;
  readonly microbatchesPerLane: number;
  readonly clock: Clock;
  /** Time for the next microbatch, ms. */
  readonly delayMs: () => number;
}

interface Dealt extends BatchPlace {
  readonly rows: readonly PlannedRow[];
}

export class ToyFeed implements FeedLike {
  readonly opened: Promise<readonly string[]>;
  readonly #init: ToyFeedInit;
  readonly #stopped = new AbortController();
  #dealt: Dealt[] = [];
  readonly #inUse = new Set<number>();
  #nextSlot = 0;

  constructor(init: ToyFeedInit) {
    this.#init = init;
    this.opened = init.clock.sleep(init.delayMs()).then(() => init.mixture.taskNames);
  }

  deal(step: number, lanes: readonly LaneRows[]): void {
    const { microbatchRows, microbatchesPerLane } = this.#init;
    for (const { lane, rows: encoded } of lanes) {
      const rows = decodeRows(encoded);
      if (rows.length !== microbatchRows * microbatchesPerLane)
        throw new TrainerError(
          'MESSAGE_INVALID',
          `step ${step} lane ${lane}: expected ${microbatchRows * microbatchesPerLane} rows, got ${rows.length}`,
        );
      for (let microbatch = 0; microbatch < microbatchesPerLane; microbatch++) {
        const first = microbatch * microbatchRows;
        this.#dealt.push({ step, lane, microbatch, rows: rows.slice(first, first + microbatchRows) });
      }
    }
  }

  drop(): Promise<void> {
    this.#dealt = [];
    return Promise.resolve();
  }

  async next(expected: BatchPlace, signal: AbortSignal): Promise<FilledBatch> {
    const { mixture, seed, microbatchRows, clock, delayMs } = this.#init;
    await clock.sleep(delayMs(), AbortSignal.any([signal, this.#stopped.signal]));
    const dealt = this.#dealt.shift();
    const { step, lane, microbatch } = expected;
    assertInvariant(
      dealt?.step === step && dealt.lane === lane && dealt.microbatch === microbatch,
      `feed: expected step ${step} lane ${lane} microbatch ${microbatch}, got ${dealt === undefined ? 'nothing' : `step ${dealt.step} lane ${dealt.lane} microbatch ${dealt.microbatch}`}`,
    );
    assertInvariant(this.#inUse.size < MAX_IN_USE, `feed: at most ${MAX_IN_USE} microbatches are in use at once`);
    const slot = this.#nextSlot++;
    this.#inUse.add(slot);
    const { inputs, targets } = mixture.featureLengths;
    const arrays = createBatchArrays(microbatchRows, inputs, targets);
    let inputTokens = 0;
    for (const [row, planned] of dealt.rows.entries())
      inputTokens += await fillRow(arrays, row, planned, mixture, seed, signal);
    return { step, lane, microbatch, slot, arrays, inputTokens };
  }

  release({ slot }: Pick<FilledBatch, 'slot'>): void {
    assertInvariant(this.#inUse.delete(slot), `feed: slot ${slot} is in use when it is released`);
  }

  stop(): Promise<void> {
    this.#stopped.abort();
    return Promise.resolve();
  }
}
