/**
 * The all-reduce of one generation on one rank: direct reduce-scatter and all-gather over the full mesh, in the canonical tree.
 *
 * Every rank sends its cover-node partials of chunk r to rank r. Rank r finishes the tree in the fixed order, whatever the order of arrival,
 * and sends the sum to all. A bucket starts as soon as it is ready. Where every cover is one node, a rank sends 2·(N−1)/N of the gradient
 * in two hops. The gradient is reduced in place, in slot 0 of the arena.
 *
 * Assumptions. Channels keep the order of frames. Between `startStep` and its result the compute thread writes only buckets that it has not
 * announced yet, and nothing else touches slot 0. Steps of a generation are numbered without gaps. After a failure the object is dead: all
 * channels are closed, and another generation repeats the step.
 */
import { abortedError } from '../../shared/abort.ts';
import { type Clock, systemClock } from '../../shared/clock.ts';
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import type { LaneTree } from '../../shared/lane-tree.ts';
import type { Arena } from '../arena/arena.ts';
import { planPieces, widenedBytes, type Piece, type BucketPlan } from '../arena/bucket-plan.ts';
import type { ChecksumState } from '../arena/line-checksum.ts';
import { FRAME_PART, FRAME_SUM, type FrameHeader, type FrameFields } from '../mesh/frame-header.ts';
import type { FrameSink, PeerChannel } from '../mesh/peer-channel.ts';
import { PiecePasses, type Payload } from './piece-passes.ts';
import { StepExchange, type ExchangeShape } from './step-exchange.ts';
import { StepTally, type StepResult } from './step-tally.ts';

export interface CollectiveOptions {
  /** Most bytes of one payload, a multiple of 64. */
  readonly frameBytes: number;
  /** Checksum every payload before its bytes are used. */
  readonly verify: boolean;
  /** Longest time without any progress once the own buckets are all ready. */
  readonly timeoutMs: number;
}

const DEFAULT_OPTIONS: CollectiveOptions = { frameBytes: 512 << 10, verify: true, timeoutMs: 60_000 };

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
  readonly channels: readonly PeerChannel[];
  readonly options?: Partial<CollectiveOptions>;
  readonly clock?: Clock;
}

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
  readonly #channels = new Map<number, PeerChannel>();
  /** By peers that are ready to receive: how many pieces to each may be under way. */
  readonly #sendWindows = new Map<number, number>();
  /** The step under way or, between steps, the next one: its parts may arrive before `startStep`. */
  #current: StepExchange;
  #next: StepExchange;
  #running: RunningStep | null = null;
  #framesInFlight = 0;
  #error: TrainerError | null = null;
  #reportFailure!: (error: TrainerError) => void;

  /** Starts the channels. @throws CONFIG_INVALID, INTERNAL when the collaborators do not fit together */
  constructor(init: CollectiveInit) {
    const { arena, plan, laneTree, rank, epoch, generation, channels } = init;
    this.#init = init;
    this.#options = { ...DEFAULT_OPTIONS, ...init.options };
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
      await Promise.all(channels.map((channel) => channel.closed));
    });
    for (const channel of channels) this.#channels.set(channel.peerRank, channel);
    for (let peer = 0; peer < laneTree.worldSize; peer++)
      if (this.#channels.has(peer) === (peer === rank))
        throw new TrainerError('INTERNAL', `channels of rank ${rank}: expected one per peer, wrong for rank ${peer}`);
    for (const channel of channels) this.#startChannel(channel);
  }

  /**
   * Begins a step. `bucketReady` then announces its buckets.
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
    const onAbort = (): void => this.#fail(abortedError(`all-reduce of step ${step}`, signal));
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
    void running.settled.finally(() => signal?.removeEventListener('abort', onAbort));
    return running.result;
  }

  /** Every partial of the bucket is in slots 0 … cover−1. @throws INTERNAL for a wrong bucket */
  bucketReady(bucket: number): void {
    if (this.#error !== null) return; // the step's promise has rejected
    const running = this.#running;
    if (running === null)
      throw new TrainerError('INTERNAL', `bucketReady: bucket ${bucket} was announced before startStep`);
    this.#current.markReady(bucket);
    running.tally.announced(bucket);
    if (this.#current.allReady) {
      running.tally.progress();
      void this.#watch(running);
    }
    this.#reduceWhatIsComplete();
    for (const peer of this.#channels.keys()) this.#sendParts(peer);
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

  #startChannel(channel: PeerChannel): void {
    const peer = channel.peerRank;
    const sink: FrameSink = {
      ready: (window) => {
        this.#sendWindows.set(peer, window);
        if (this.#running !== null) this.#sendParts(peer);
      },
      targetFor: (header) => this.#targetFor(peer, header),
      received: (header) => this.#received(peer, header),
      closed: (error) => this.#fail(error),
    };
    channel.start(sink, this.#shape.windows[peer]!);
  }

  /** The step a frame belongs to. Parts of the next step may come while the last sums of this one are still under way. */
  #exchangeFor(header: FrameHeader): StepExchange {
    const isEarly =
      header.type === FRAME_PART &&
      header.step === this.#next.step &&
      this.#running !== null &&
      this.#current.ownChunkDone;
    return isEarly ? this.#next : this.#current;
  }

  #targetFor(peer: number, header: FrameHeader): Uint8Array {
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
    switch (header.type) {
      case FRAME_PART:
        this.#receivePart(peer, header, exchange);
        break;
      case FRAME_SUM:
        this.#receiveSum(peer, header, exchange);
        break;
    }
    this.#running?.tally.progress();
    this.#finishIfDone();
  }

  #receivePart(peer: number, header: FrameHeader, exchange: StepExchange): void {
    const { piece, ordinal } = exchange.checkPart(peer, header);
    this.#passes.receivePart(peer, ordinal, piece, header);
    exchange.partReceived(peer);
    if (exchange === this.#current) this.#reduceWhatIsComplete();
  }

  #receiveSum(peer: number, header: FrameHeader, exchange: StepExchange): void {
    const piece = exchange.checkSum(peer, header);
    const { tally } = this.#running!; // checkSum accepts no sum before `startStep`
    const checksum = this.#passes.receiveSum(peer, piece, header, tally.norm);
    exchange.sumReceived(peer);
    tally.pieceDone(piece, checksum);
    this.#sendParts(peer);
  }

  #reduceWhatIsComplete(): void {
    const running = this.#running;
    if (running === null) return;
    for (;;) {
      const ordinal = this.#current.numReduced;
      const piece = this.#current.nextPieceToReduce();
      if (piece === null) return;
      const checksum = this.#passes.reduce(piece, ordinal, running.tally.norm);
      if (this.#channels.size > 0) this.#sendSum(piece, ordinal, checksum);
      running.tally.pieceDone(piece, checksum);
    }
  }

  #sendSum(piece: Piece, ordinal: number, state: ChecksumState): void {
    const payload = this.#passes.sumPayload(piece, ordinal, state);
    const fields = this.#current.fieldsOf(FRAME_SUM, piece, 0);
    // Starting behind the own rank spreads the first frames over the mesh.
    const { rank, worldSize } = this.#shape;
    for (let i = 1; i < worldSize; i++) this.#send((rank + i) % worldSize, fields, payload);
  }

  #sendParts(peer: number): void {
    const window = this.#sendWindows.get(peer);
    if (this.#error !== null || this.#running === null || window === undefined) return;
    for (;;) {
      const piece = this.#current.nextPieceToSend(peer, window);
      if (piece === null) return;
      for (let node = 0; node < this.#shape.numCoverNodes[this.#shape.rank]!; node++) {
        const payload = this.#passes.partPayload(piece, node);
        this.#send(peer, this.#current.fieldsOf(FRAME_PART, piece, node), payload);
      }
    }
  }

  #send(peer: number, fields: FrameFields, { bytes, checksum }: Payload): void {
    this.#framesInFlight++;
    this.#channels
      .get(peer)!
      .send({ ...fields, payloadChecksum: checksum }, bytes)
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

  /** Fails the step after `timeoutMs` without progress. Starts when the own buckets are all ready. */
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
    for (const channel of this.#channels.values()) channel.close(code, `rank ${this.#shape.rank}: ${error.message}`);
  }
}

/** A step under way: its promise, its tally, and the signal that it is over. */
class RunningStep {
  readonly tally: StepTally;
  readonly result: Promise<StepResult>;
  readonly settled: Promise<void>;
  readonly #over = new AbortController();
  #resolve!: (result: StepResult) => void;
  #reject!: (error: TrainerError) => void;

  constructor(tally: StepTally) {
    this.tally = tally;
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // A caller may await `result` late: a rejection must not count as unhandled until then.
    this.settled = this.result.then(
      () => undefined,
      () => undefined,
    );
  }

  get over(): AbortSignal {
    return this.#over.signal;
  }

  resolve(result: StepResult): void {
    this.#resolve(result);
    this.#over.abort();
  }

  reject(error: TrainerError): void {
    this.#reject(error);
    this.#over.abort();
  }
}
