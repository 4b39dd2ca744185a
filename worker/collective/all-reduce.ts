/**
 * The all-reduce of one generation on one rank: direct reduce-scatter and all-gather over the full mesh, in the canonical tree.
 *
 * Every rank sends its cover-node partials of chunk r to rank r, which finishes the tree in the fixed order, whatever arrives
 * whenever, and sends the sum to all; buckets start as soon as they are ready. Traffic of a rank is 2·(N−1)/N of the gradient
 * where every cover is one node, in two hops. The gradient is reduced in place, in slot 0 of the arena.
 *
 * Assumptions. Links keep the order of frames. Between `startStep` and its result the compute thread writes only buckets
 * that it has not announced yet, and nothing else touches slot 0. Steps of a generation are numbered without gaps. After a
 * failure the object is dead: all links are closed and the step is repeated by another generation.
 */
import { type Clock, systemClock } from '../../shared/clock.ts';
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import { planPieces, widenedBytes, type Piece, type BucketPlan } from '../arena/bucket-plan.ts';
import { FRAME_PART, FRAME_SUM, type FrameHeader, type FramePlace } from '../mesh/frame-header.ts';
import type { ChecksumState } from '../arena/line-checksum.ts';
import type { FrameSink, Link } from '../mesh/peer-channel.ts';
import { PiecePasses, type Payload } from './piece-passes.ts';
import { StepExchange, type ExchangeShape } from './step-exchange.ts';
import { RunningStep, StepTally, type StepResult } from './step-tally.ts';
import type { Arena } from '../arena/arena.ts';
import type { LaneTree } from '../../shared/lane-tree.ts';

export class Collective {
  /** Resolves with the reason when the collective has failed or was closed; never rejects. */
  readonly failed: Promise<TrainerError>;
  /** Resolves when after that all sockets are gone as well: nothing is read into the arena any more. */
  readonly closed: Promise<void>;
  readonly #init: CollectiveInit;
  readonly #options: CollectiveOptions;
  readonly #clock: Clock;
  readonly #shape: ExchangeShape;
  readonly #passes: PiecePasses;
  readonly #links = new Map<number, Link>();
  /** Of the peers that read: how many pieces to each may be under way. */
  readonly #sendWindows = new Map<number, number>();
  /** The step under way or, between steps, the one that is expected: parts of it may arrive before `startStep`. */
  #current: StepExchange;
  #next: StepExchange;
  #running: RunningStep | null = null;
  #framesInFlight = 0;
  #error: TrainerError | null = null;
  #reportFailure!: (error: TrainerError) => void;

  /** Starts the links. @throws CONFIG_INVALID, INTERNAL when the collaborators do not fit together */
  constructor(init: CollectiveInit) {
    const { arena, plan, laneTree, rank, epoch, generation, links } = init;
    this.#init = init;
    this.#options = { ...DEFAULT_COLLECTIVE_OPTIONS, ...init.options };
    this.#clock = init.clock ?? systemClock;
    const { frameBytes } = this.#options;
    this.#shape = {
      rank,
      worldSize: laneTree.worldSize,
      epoch,
      generation,
      windows: arena.layout.windows,
      numBuckets: plan.buckets.length,
      pieces: planPieces(plan, laneTree.worldSize, frameBytes),
      numCoverNodes: laneTree.folds.map(({ cover }) => cover.length),
    };
    if (arena.layout.receiveStride < widenedBytes(frameBytes, plan.precision))
      throw new TrainerError('INTERNAL', 'the arena was planned for smaller frames');
    this.#passes = new PiecePasses({ arena, laneTree, rank, verify: this.#options.verify });
    this.#current = new StepExchange(this.#shape, init.firstStep);
    this.#next = new StepExchange(this.#shape, init.firstStep + 1);
    this.failed = new Promise((resolve) => (this.#reportFailure = resolve));
    this.closed = this.failed.then(async () => {
      await Promise.all(links.map((link) => link.closed));
    });
    for (const link of links) this.#links.set(link.peerRank, link);
    for (let peer = 0; peer < laneTree.worldSize; peer++)
      if (this.#links.has(peer) === (peer === rank))
        throw new TrainerError('INTERNAL', `links of rank ${rank}: expected one per peer, wrong for rank ${peer}`);
    for (const link of links) this.#startLink(link);
  }

  /**
   * Begins a step. Its buckets are then announced by `bucketReady`.
   * @param signal ends the step, and with it the collective
   * @returns when all sums have arrived and all own frames have left: slot 0 may be read, and written again.
   *   Rejects with COLLECTIVE_TIMEOUT, CONNECTION_LOST, FRAME_STALE, FRAME_INVALID, SEND_OVERFLOW or ABORTED.
   */
  startStep(step: number, signal?: AbortSignal): Promise<StepResult> {
    if (this.#error !== null) return Promise.reject(this.#error);
    if (this.#running !== null || step !== this.#current.step)
      return Promise.reject(
        new TrainerError(
          'INTERNAL',
          `startStep: expected step ${this.#current.step}${this.#running === null ? '' : ' to finish first'}, found ${step}`,
        ),
      );
    const running = new RunningStep(new StepTally(this.#init, this.#shape, this.#clock));
    this.#running = running;
    const onAbort = (): void => this.#fail(new TrainerError('ABORTED', `all-reduce of step ${step} was called off`));
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
    void running.settled.finally(() => signal?.removeEventListener('abort', onAbort));
    return running.result;
  }

  /** Every partial of the bucket lies in slots 0 … cover−1. @throws INTERNAL for a wrong bucket */
  bucketReady(bucket: number): void {
    if (this.#error !== null) return; // the step's promise tells
    const running = this.#running;
    if (running === null)
      throw new TrainerError('INTERNAL', `bucketReady: bucket ${bucket} was announced before startStep`);
    this.#current.markReady(bucket);
    running.tally.announced(bucket);
    if (this.#current.allReady) {
      running.tally.allReady();
      void this.#watch(running);
    }
    this.#advance(this.#shape.rank);
    for (const peer of this.#links.keys()) this.#sendParts(peer);
    this.#finishIfDone();
  }

  /** Why the collective is dead, or null. */
  get error(): TrainerError | null {
    return this.#error;
  }

  /** Ends the collective in order; a step under way rejects with ABORTED. Idempotent. */
  close(): void {
    this.#fail(new TrainerError('ABORTED', 'the collective was closed'), 'NORMAL');
  }

  #startLink(link: Link): void {
    const peer = link.peerRank;
    const sink: FrameSink = {
      ready: (window) => {
        this.#sendWindows.set(peer, window);
        if (this.#running !== null) this.#sendParts(peer);
      },
      place: (header) => this.#place(peer, header),
      received: (header) => this.#received(peer, header),
      closed: (error) => this.#fail(error),
    };
    link.start(sink, this.#shape.windows[peer]!);
  }

  /** Finds the step a frame is for; the next step's parts may come while the last sums of this one are still under way. */
  #exchangeFor(header: FrameHeader): StepExchange {
    const early =
      header.type === FRAME_PART &&
      header.step === this.#next.step &&
      this.#running !== null &&
      this.#current.ownChunkDone;
    return early ? this.#next : this.#current;
  }

  #place(peer: number, header: FrameHeader): Uint8Array {
    const exchange = this.#exchangeFor(header);
    if (header.type === FRAME_PART) {
      const { piece, ordinal, node } = exchange.checkPart(peer, header);
      return this.#passes.partTarget(peer, ordinal, node, piece);
    }
    return this.#passes.sumTarget(exchange.checkSum(peer, header));
  }

  #received(peer: number, header: FrameHeader): void {
    if (this.#error !== null) return;
    const exchange = this.#exchangeFor(header);
    if (header.type === FRAME_PART) {
      const { piece, ordinal } = exchange.checkPart(peer, header);
      this.#timed(() => this.#passes.takePart(peer, ordinal, piece, header));
      exchange.partReceived(peer);
      if (exchange === this.#current) this.#advance(peer);
    } else this.#takeSum(peer, header, exchange);
    this.#running?.tally.received(header.byteLength);
    this.#finishIfDone();
  }

  #takeSum(peer: number, header: FrameHeader, exchange: StepExchange): void {
    const piece = exchange.checkSum(peer, header);
    const { tally } = this.#running!; // before `startStep` no sum is acceptable
    const checksum = this.#timed(() => this.#passes.takeSum(peer, piece, header, tally.norm));
    exchange.sumReceived(peer);
    tally.pieceDone(piece, checksum);
    this.#sendParts(peer);
  }

  /** Counts the time of a pass as the running step's. */
  #timed<T>(pass: () => T): T {
    const startMs = this.#clock.monotonicMs();
    const result = pass();
    this.#running?.tally.checked(this.#clock.monotonicMs() - startMs);
    return result;
  }

  /** Reduces whatever is complete. @param cause the rank whose data came last */
  #advance(cause: number): void {
    const running = this.#running;
    if (running === null) return;
    for (;;) {
      const ordinal = this.#current.numReduced;
      const piece = this.#current.takePieceToReduce();
      if (piece === null) return;
      const startMs = this.#clock.monotonicMs();
      const checksum = this.#passes.reduce(piece, ordinal, running.tally.norm);
      running.tally.reduced(cause, this.#clock.monotonicMs() - startMs);
      if (this.#links.size > 0) this.#sendSum(piece, ordinal, checksum);
      running.tally.pieceDone(piece, checksum);
    }
  }

  #sendSum(piece: Piece, ordinal: number, state: ChecksumState): void {
    const payload = this.#timed(() => this.#passes.sumPayload(piece, ordinal, state));
    const place = this.#current.place(FRAME_SUM, piece, 0);
    // Starting behind the own rank spreads the first frames over the mesh.
    const { rank, worldSize } = this.#shape;
    for (let i = 1; i < worldSize; i++) this.#send((rank + i) % worldSize, place, payload);
  }

  #sendParts(peer: number): void {
    const window = this.#sendWindows.get(peer);
    if (this.#error !== null || this.#running === null || window === undefined) return;
    for (;;) {
      const piece = this.#current.takePieceToSend(peer, window);
      if (piece === null) return;
      for (let node = 0; node < this.#shape.numCoverNodes[this.#shape.rank]!; node++) {
        const payload = this.#timed(() => this.#passes.partPayload(piece, node));
        this.#send(peer, this.#current.place(FRAME_PART, piece, node), payload);
      }
    }
  }

  #send(peer: number, place: FramePlace, { bytes, checksum }: Payload): void {
    this.#framesInFlight++;
    this.#running?.tally.sent(place.byteLength);
    this.#links
      .get(peer)!
      .send({ ...place, payloadChecksum: checksum }, bytes)
      .then(
        () => {
          this.#framesInFlight--;
          this.#running?.tally.progress();
          this.#finishIfDone();
        },
        (error: unknown) => this.#fail(toTrainerError(error)),
      );
  }

  #finishIfDone(): void {
    const running = this.#running;
    if (running === null || this.#error !== null || this.#framesInFlight > 0 || !this.#current.done) return;
    this.#running = null;
    this.#current = this.#next;
    this.#next = new StepExchange(this.#shape, this.#current.step + 1);
    running.resolve(running.tally.finish());
  }

  /** Fails the step when nothing moved for `timeoutMs` after the own buckets were all ready. */
  async #watch(running: RunningStep): Promise<void> {
    const { timeoutMs } = this.#options;
    try {
      for (;;) {
        const restMs = running.tally.lastProgressMs + timeoutMs - this.#clock.monotonicMs();
        if (restMs <= 0) break;
        await this.#clock.sleep(restMs, running.over);
      }
    } catch {
      return; // the step is over
    }
    if (this.#running !== running) return;
    const missing = this.#current.describeMissing();
    const what = missing.length === 0 ? [`${this.#framesInFlight} own frames have not left this host`] : missing;
    this.#fail(
      new TrainerError(
        'COLLECTIVE_TIMEOUT',
        `all-reduce of step ${this.#current.step} (generation ${this.#shape.generation}, rank ${this.#shape.rank}): ` +
          `no progress for ${timeoutMs} ms; ${what.join('; ')}`,
        { retryable: true },
      ),
    );
  }

  #fail(error: TrainerError, code: TrainerError['code'] | 'NORMAL' = error.code): void {
    if (this.#error !== null) return;
    this.#error = error;
    const running = this.#running;
    this.#running = null;
    running?.reject(error);
    this.#reportFailure(error);
    for (const link of this.#links.values()) link.close(code, `rank ${this.#shape.rank}: ${error.message}`);
  }
}

// FOLDED all-reduce.ts
/** What a Collective is made of, and what can be chosen about the all-reduce; costs are in bench/RESULTS.md. */

export interface CollectiveOptions {
  /** Most bytes of one payload, a multiple of 64. */
  readonly frameBytes: number;
  /** Checksum every payload before its bytes are used. */
  readonly verify: boolean;
  /** Longest time without any progress once the own buckets are all ready. */
  readonly timeoutMs: number;
}

export const DEFAULT_COLLECTIVE_OPTIONS: CollectiveOptions = {
  frameBytes: 512 << 10,
  verify: true,
  timeoutMs: 60_000,
};

export interface CollectiveInit {
  readonly arena: Arena;
  readonly plan: BucketPlan;
  readonly laneTree: LaneTree;
  readonly rank: number;
  readonly epoch: number;
  readonly generation: number;
  /** Number of the generation's first step. */
  readonly firstStep: number;
  /** One per peer, not yet started. */
  readonly links: readonly Link[];
  readonly options?: Partial<CollectiveOptions>;
  readonly clock?: Clock;
}
