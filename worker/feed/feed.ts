/**
 * The compute thread's side of the feed: starts the thread, passes deals on, and takes microbatches in the order they were dealt.
 * At most `numSlots` microbatches exist at a time: the ring is the bound of prefetching.
 */
import type { BatchArrays } from '../../mixture/feed/batch.ts';
import { assertInvariant, fromErrorRecord, TrainerError } from '../../shared/errors.ts';
import { Mailbox } from '../../shared/mailbox.ts';
import { Thread } from '../../shared/thread/thread.ts';
import { createBatchRing, viewSlot, type BatchShape } from './batch-ring.ts';
import type { BatchPlace, FeedData, FeedReply, FeedRequest, LaneRows } from './feed-messages.ts';

/** How often a wait for a microbatch looks whether the feed has failed, ms; it has no other deadline than the step's. */
const POLL_MS = 1_000;

export interface FilledBatch extends BatchPlace {
  readonly slot: number;
  readonly arrays: BatchArrays;
  readonly inputTokens: number;
}

export interface FeedInit {
  readonly preparedFolder: string;
  readonly mixtureHash: string;
  readonly seed: number;
  readonly shape: BatchShape;
  readonly numSlots: number;
}

export class Feed {
  readonly #thread: Thread<FeedRequest, FeedReply>;
  readonly #slots: readonly BatchArrays[];
  readonly #batches: Mailbox<Extract<FeedReply, { kind: 'batch' }>>;
  #failure: TrainerError | undefined;
  /** Resolves when the prepared mixture is open and verified. @throws SHARD_CORRUPT, MIXTURE_MISMATCH */
  readonly opened: Promise<void>;

  constructor(init: FeedInit) {
    const { shape, numSlots } = init;
    const ring = createBatchRing(shape, numSlots);
    const data: FeedData = { ...init, ring };
    this.#slots = Array.from({ length: numSlots }, (_, slot) => viewSlot(ring, shape, slot));
    this.#batches = new Mailbox(numSlots);
    const { promise, resolve, reject } = withResolvers();
    this.opened = promise;
    const fail = (error: TrainerError): void => {
      this.#failure ??= error;
      reject(error);
    };
    this.#thread = new Thread({
      module: new URL('./feed-thread.ts', import.meta.url),
      data,
      onFailed: fail,
      onMessage: (reply: FeedReply) => {
        if (reply.kind === 'opened') resolve();
        else if (reply.kind === 'failed') fail(fromErrorRecord(reply.error));
        else assertInvariant(this.#batches.put(reply), 'the feed hands over no more microbatches than there are slots');
      },
    });
  }

  deal(step: number, lanes: readonly LaneRows[]): void {
    this.#thread.post({ kind: 'deal', step, lanes });
  }

  /** Forgets what was dealt; microbatches that are ready are given back. */
  async drop(): Promise<void> {
    this.#thread.post({ kind: 'drop' });
    while (this.#batches.size > 0) {
      const batch = await this.#batches.next(0);
      if (batch !== undefined) this.#thread.post({ kind: 'free', slot: batch.slot });
    }
  }

  /**
   * The next microbatch, which must be the one expected.
   * @throws what the feed thread failed with, ABORTED
   */
  async next(expected: BatchPlace, signal: AbortSignal): Promise<FilledBatch> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const batch = await this.#batches.next(POLL_MS, signal);
      if (batch === undefined) continue;
      const { step, lane, microbatch, slot, inputTokens } = batch;
      if (step !== expected.step || lane !== expected.lane || microbatch !== expected.microbatch)
        throw new TrainerError(
          'INTERNAL',
          `feed: expected step ${expected.step} lane ${expected.lane} microbatch ${expected.microbatch}, got step ${step} lane ${lane} microbatch ${microbatch}`,
        );
      return { step, lane, microbatch, slot, inputTokens, arrays: this.#slots[slot]! };
    }
  }

  /** Gives a slot back to be filled again. */
  release({ slot }: FilledBatch): void {
    this.#thread.post({ kind: 'free', slot });
  }

  async stop(): Promise<void> {
    await this.#thread.stop();
  }
}

function withResolvers(): { promise: Promise<void>; resolve: () => void; reject: (error: Error) => void } {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  promise.catch(() => undefined); // who waits for it sees the error; nobody need wait
  return { promise, resolve, reject };
}
