/**
 * The result of one step's all-reduce, collected while it runs: digest, sum of squares, times of buckets. Digest and sum of squares are
 * computed over the fixed flat layout in a fixed order, so they are the same on every rank and for every world size.
 *
 * Digest: line checksum of the whole reduced flat gradient, combined from the checksums of the pieces. It covers the bytes in this rank's
 * memory, also where received frames are not verified.
 * Sum of squares: gradient-norm.ts.
 */
import type { Clock } from '../../shared/clock.ts';
import { assertInvariant } from '../../shared/errors.ts';
import type { Arena } from '../arena/arena.ts';
import type { BucketPlan, Piece } from '../arena/bucket-plan.ts';
import { combineChecksums, emptyChecksum, finishChecksum, type ChecksumState } from '../arena/line-checksum.ts';
import { GradientNorm } from './gradient-norm.ts';
import type { ExchangeShape } from './step-exchange.ts';

/** Times of one bucket, ms from startStep. */
export interface BucketTimes {
  /** This rank announced its partials of the bucket. */
  readonly announcedMs: number;
  /** The last piece of the sum was in slot 0. */
  readonly finalMs: number;
}

export interface StepResult {
  /** uint32 checksum of the reduced flat gradient, equal on all ranks and for all world sizes. */
  readonly digest: number;
  /** Σ g² over the flat gradient; finite exactly if every gradient element is. */
  readonly sumOfSquares: number;
  /** Byte offset in the flat gradient of the first 16-byte group with a NaN or infinity; null where all is finite. */
  readonly firstNonFiniteBytes: number | null;
  /** By bucket. Communication before the last announcement overlaps the computation. */
  readonly buckets: readonly BucketTimes[];
}

export class StepTally {
  readonly norm: GradientNorm;
  readonly #arena: Arena;
  readonly #plan: BucketPlan;
  readonly #shape: ExchangeShape;
  readonly #clock: Clock;
  readonly #startMs: number;
  /** Pieces of each bucket that are not final yet. */
  readonly #openPieces: number[];
  readonly #buckets: { announcedMs: number; finalMs: number }[];
  /** By offset. */
  readonly #checksums = new Map<number, ChecksumState>();
  #progressMs: number;

  constructor(
    { arena, plan }: { readonly arena: Arena; readonly plan: BucketPlan },
    shape: ExchangeShape,
    clock: Clock,
  ) {
    this.norm = new GradientNorm({ arena, plan });
    this.#arena = arena;
    this.#plan = plan;
    this.#shape = shape;
    this.#clock = clock;
    this.#startMs = clock.monotonicMs();
    this.#progressMs = this.#startMs;
    this.#openPieces = new Array<number>(shape.numBuckets).fill(0);
    this.#buckets = this.#openPieces.map(() => ({ announcedMs: 0, finalMs: 0 }));
    for (const { bucket } of shape.pieces.flat()) this.#openPieces[bucket]!++;
  }

  get lastProgressMs(): number {
    return this.#progressMs;
  }

  /** A frame was sent or received, or the last bucket was announced. */
  progress(): void {
    this.#progressMs = this.#clock.monotonicMs();
  }

  announced(bucket: number): void {
    this.#buckets[bucket]!.announcedMs = this.#elapsedMs();
  }

  /** The final bytes of a piece are in slot 0. */
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
    const firstNonFiniteBytes = Number.isFinite(sumOfSquares) ? null : this.#findNonFinite();
    return { digest, sumOfSquares, firstNonFiniteBytes, buckets: this.#buckets };
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
