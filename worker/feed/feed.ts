/**
 * The compute thread's side of the feed: starts the thread, passes deals on, and receives microbatches in the order dealt. At most `numSlots`
 * microbatches exist at a time: the ring bounds prefetching.
 */
import type { BatchArrays } from '../../mixture/feed/batch.ts';
import type { SourceNotice } from '../../mixture/feed/source-watch.ts';
import { assertInvariant, fromErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { systemClock } from '../../shared/clock.ts';
import { Mailbox } from '../../shared/mailbox.ts';
import { Thread } from '../../shared/thread/thread.ts';
import { createBatchRing, viewSlot } from './batch-ring.ts';
import type { BatchPlace, FeedData, FeedReply, FeedRequest, LaneRows, SourceOptions } from './feed-messages.ts';

/** The step's signal carries the deadline of a wait for a microbatch. The wait is renewed this often, ms. */
const WAIT_MS = 60_000;

type Delivery = Extract<FeedReply, { kind: 'batch' }> | { readonly kind: 'failed'; readonly error: TrainerError };

export interface FilledBatch extends BatchPlace {
  readonly slot: number;
  readonly arrays: BatchArrays;
  readonly inputTokens: number;
}

export interface FeedInit extends Omit<FeedData, 'ring' | 'access'> {
  readonly access?: SourceOptions;
  /** A remote mixture does not answer, or answers again. */
  readonly onSource?: (notice: SourceNotice) => void;
}

export class Feed {
  readonly #thread: Thread<FeedRequest, FeedReply>;
  readonly #slots: readonly BatchArrays[];
  /** One more than there are slots: a failure queues behind the microbatches before it. */
  readonly #deliveries: Mailbox<Delivery>;
  readonly #rejectOpened: (error: TrainerError) => void;
  #numDrops = 0;
  #hasFailed = false;
  /** The failure, once `next` has met it. */
  #failure: TrainerError | undefined;
  /**
   * Resolves with the tasks' names when the prepared mixture is open.
   * @throws SHARD_CORRUPT, MIXTURE_MISMATCH, PATH_UNUSABLE, the codes of shared/storage
   */
  readonly opened: Promise<readonly string[]>;

  constructor(init: FeedInit) {
    const { onSource, access = {}, ...plain } = init;
    const { shape, numSlots } = init;
    const ring = createBatchRing(shape, numSlots);
    const data: FeedData = { ...plain, access, ring };
    this.#slots = Array.from({ length: numSlots }, (_, slot) => viewSlot(ring, shape, slot));
    this.#deliveries = new Mailbox(numSlots + 1, systemClock);
    let resolveOpened!: (taskNames: readonly string[]) => void;
    let rejectOpened!: (error: TrainerError) => void;
    this.opened = new Promise((resolve, reject) => {
      resolveOpened = resolve;
      rejectOpened = reject;
    });
    this.opened.catch(() => undefined); // a waiter and `next` get the error; without a waiter it must not be unhandled
    this.#rejectOpened = rejectOpened;
    this.#thread = new Thread({
      module: 'worker/feed/feed-thread.ts',
      data,
      onFailed: (error) => this.#fail(error),
      onMessage: (reply: FeedReply) => {
        switch (reply.kind) {
          case 'opened':
            resolveOpened(reply.taskNames);
            break;
          case 'batch':
            this.#receive(reply);
            break;
          case 'source':
            onSource?.(reply.notice);
            break;
          case 'failed':
            this.#fail(fromErrorRecord(reply.error));
            break;
        }
      },
    });
  }

  deal(step: number, lanes: readonly LaneRows[]): void {
    this.#thread.post({ kind: 'deal', step, lanes, numDrops: this.#numDrops });
  }

  /** Drops what was dealt; releases its microbatches that are queued or still come. */
  async drop(): Promise<void> {
    this.#numDrops += 1;
    this.#thread.post({ kind: 'drop' });
    while (this.#deliveries.size > 0) {
      const delivery = await this.#deliveries.next(0);
      if (delivery?.kind === 'batch') this.release(delivery);
      else if (delivery !== undefined) this.#failure = delivery.error;
    }
  }

  /**
   * The next microbatch; INTERNAL for another one than expected.
   * @throws the feed thread's failure, ABORTED
   */
  async next(expected: BatchPlace, signal: AbortSignal): Promise<FilledBatch> {
    for (;;) {
      if (this.#failure !== undefined) throw this.#failure;
      const delivery = await this.#deliveries.next(WAIT_MS, signal);
      if (delivery === undefined) continue;
      if (delivery.kind === 'failed') {
        this.#failure = delivery.error;
        continue;
      }
      const { step, lane, microbatch, slot, inputTokens } = delivery;
      if (step !== expected.step || lane !== expected.lane || microbatch !== expected.microbatch)
        throw new TrainerError(
          'INTERNAL',
          `feed: expected step ${expected.step} lane ${expected.lane} microbatch ${expected.microbatch}, got step ${step} lane ${lane} microbatch ${microbatch}`,
        );
      return { step, lane, microbatch, slot, inputTokens, arrays: this.#slots[slot]! };
    }
  }

  /** Releases a slot to be filled again. */
  release({ slot }: Pick<FilledBatch, 'slot'>): void {
    this.#thread.post({ kind: 'free', slot });
  }

  /** Ends the thread; a waiting call gets ABORTED. */
  async stop(): Promise<void> {
    this.#fail(new TrainerError('ABORTED', 'the feed was stopped'));
    await this.#thread.stop();
  }

  #receive(batch: Extract<FeedReply, { kind: 'batch' }>): void {
    // Posted before the thread saw the drop.
    if (batch.numDrops !== this.#numDrops) {
      this.release(batch);
      return;
    }
    try {
      assertInvariant(this.#deliveries.put(batch), 'the feed hands over no more microbatches than there are slots');
    } catch (error) {
      this.#fail(toTrainerError(error));
    }
  }

  #fail(error: TrainerError): void {
    if (this.#hasFailed) return;
    this.#hasFailed = true;
    this.#rejectOpened(error);
    // With a full mailbox no `next` waits: store the failure for the next call.
    if (!this.#deliveries.put({ kind: 'failed', error })) this.#failure = error;
  }
}
