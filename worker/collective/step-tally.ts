/**
 * What one step's all-reduce leaves behind: digest, sum of squares, timings. Digest and sum of squares are taken over the fixed
 * flat layout in a fixed order, so they are the same on every rank and for every world size.
 *
 * Digest: line checksum of the whole reduced flat gradient, put together from those of the pieces; it is
 * taken over the bytes that lie in this rank's memory, also where frames are not verified.
 * Sum of squares: gradient-norm.ts.
 */
import type { Clock } from '../../shared/clock.ts';
import { assertInvariant, type TrainerError } from '../../shared/errors.ts';
import type { Arena } from '../arena/arena.ts';
import type { BucketPlan, Piece } from '../arena/bucket-plan.ts';
import { GradientNorm } from './gradient-norm.ts';
import { combineChecksums, emptyChecksum, finishChecksum, type ChecksumState } from '../arena/line-checksum.ts';
import type { ExchangeShape } from './step-exchange.ts';

/** When a bucket was under way, ms from startStep. */
export interface BucketTimes {
  /** The own partials of it were there: it could leave. */
  readonly announcedMs: number;
  /** The last piece of its sum lay in slot 0. */
  readonly finalMs: number;
}

export interface StepResult {
  /** uint32 checksum of the reduced flat gradient, equal on all ranks and for all world sizes. */
  readonly digest: number;
  /** Σ g² over the flat gradient; finite exactly if every gradient element is. */
  readonly sumOfSquares: number;
  /** Byte offset in the flat gradient of the first 16-byte group with a NaN or infinity; null where all is finite. */
  readonly firstNonFiniteBytes: number | null;
  /** From startStep to the end. */
  readonly totalMs: number;
  /** From the last own bucket's readiness to the end: what communication added to the step. */
  readonly exposedMs: number;
  /** Additions, with checksum and squares of the sums. */
  readonly reduceMs: number;
  /** Checksums of parts sent and received, and of sums received with their squares; narrowing and widening. */
  readonly checkMs: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** lastArrivals[rank]: how many pieces of the own chunk waited for this rank last; the slowest rank has the most. */
  readonly lastArrivals: readonly number[];
  /** By bucket. What is under way before the last announcement overlaps the computation. */
  readonly buckets: readonly BucketTimes[];
}

interface TallyComponents {
  readonly arena: Arena;
  readonly plan: BucketPlan;
}

export class StepTally {
  readonly norm: GradientNorm;
  readonly #arena: Arena;
  readonly #plan: BucketPlan;
  readonly #shape: ExchangeShape;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #lastArrivals: number[];
  /** Pieces of each bucket that are not final yet. */
  readonly #openPieces: number[];
  readonly #buckets: { announcedMs: number; finalMs: number }[];
  /** By offset. */
  readonly #checksums = new Map<number, ChecksumState>();
  #readyMs: number;
  #progressMs: number;
  #reduceMs = 0;
  #checkMs = 0;
  #sentBytes = 0;
  #receivedBytes = 0;

  constructor({ arena, plan }: TallyComponents, shape: ExchangeShape, clock: Clock) {
    this.norm = new GradientNorm({ arena, plan });
    this.#arena = arena;
    this.#plan = plan;
    this.#shape = shape;
    this.#clock = clock;
    this.#startMs = clock.monotonicMs();
    this.#readyMs = this.#startMs;
    this.#progressMs = this.#startMs;
    this.#lastArrivals = new Array<number>(shape.worldSize).fill(0);
    this.#openPieces = new Array<number>(shape.numBuckets).fill(0);
    this.#buckets = this.#openPieces.map(() => ({ announcedMs: 0, finalMs: 0 }));
    for (const { bucket } of shape.pieces.flat()) this.#openPieces[bucket]!++;
  }

  get lastProgressMs(): number {
    return this.#progressMs;
  }

  progress(): void {
    this.#progressMs = this.#clock.monotonicMs();
  }

  announced(bucket: number): void {
    this.#buckets[bucket]!.announcedMs = this.#elapsedMs();
  }

  allReady(): void {
    this.progress();
    this.#readyMs = this.#progressMs;
  }

  sent(numBytes: number): void {
    this.#sentBytes += numBytes;
  }

  received(numBytes: number): void {
    this.#receivedBytes += numBytes;
    this.progress();
  }

  checked(ms: number): void {
    this.#checkMs += ms;
  }

  reduced(lastRank: number, ms: number): void {
    this.#lastArrivals[lastRank]!++;
    this.#reduceMs += ms;
  }

  /** The final bytes of a piece lie in slot 0. */
  pieceDone(piece: Piece, checksum: ChecksumState): void {
    this.#checksums.set(piece.offsetBytes, checksum);
    if (--this.#openPieces[piece.bucket]! > 0) return;
    this.norm.endBucket(piece.bucket);
    this.#buckets[piece.bucket]!.finalMs = this.#elapsedMs();
  }

  /** After every piece is done. */
  finish(): StepResult {
    const digest = this.#computeDigest();
    const sumOfSquares = this.norm.computeSum();
    const nowMs = this.#clock.monotonicMs();
    return {
      digest,
      sumOfSquares,
      firstNonFiniteBytes: Number.isFinite(sumOfSquares) ? null : this.#findNonFinite(),
      totalMs: nowMs - this.#startMs,
      exposedMs: nowMs - this.#readyMs,
      reduceMs: this.#reduceMs,
      checkMs: this.#checkMs,
      sentBytes: this.#sentBytes,
      receivedBytes: this.#receivedBytes,
      lastArrivals: this.#lastArrivals,
      buckets: this.#buckets,
    };
  }

  #elapsedMs(): number {
    return this.#clock.monotonicMs() - this.#startMs;
  }

  #computeDigest(): number {
    let state = emptyChecksum();
    for (const { offsetBytes, byteLength } of this.#shape.pieces.flat().sort((a, b) => a.offsetBytes - b.offsetBytes)) {
      const piece = this.#checksums.get(offsetBytes);
      assertInvariant(piece !== undefined, `the piece at ${offsetBytes} is done`);
      state = combineChecksums(state, piece, byteLength);
    }
    return finishChecksum(state);
  }

  #findNonFinite(): number | null {
    const start = this.#arena.slotAddress(0, 0);
    const found = this.#arena.kernels.findNonFinite(start, this.#plan.gradientBytes);
    return found === null ? null : found - start;
  }
}

// FOLDED step-tally.ts
/** The promise of a step's all-reduce while it is under way, its tally, and the signal that it is over. */

export class RunningStep {
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
    // The caller has the promise; one that looks later must not crash the process meanwhile.
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
