/**
 * What one step's all-reduce leaves behind: digest, sum of squares, timings. Digest and sum of squares are taken over the fixed
 * flat layout in a fixed order, so they are the same on every rank and for every world size.
 *
 * Digest: CRC-32 of the whole reduced flat gradient (scalars included), put together from the checksums of the pieces.
 * Sum of squares: float64, per bucket in the kernel's fixed order, then over the buckets from first to last.
 */
import { crc32 } from 'node:zlib';
import type { Clock } from '../../shared/clock.ts';
import type { Arena } from './arena.ts';
import type { BucketPlan, Piece } from './bucket-plan.ts';
import { combineCrc32 } from './crc32-combine.ts';
import type { ExchangeShape } from './step-exchange.ts';

export interface StepResult {
  /** CRC-32 of the reduced flat gradient, equal on all ranks and for all world sizes. */
  readonly digest: number;
  /** Σ g² over the flat gradient without the scalars; finite exactly if every gradient element is. */
  readonly sumOfSquares: number;
  /** Byte offset in the flat gradient of the first 16-byte group with a NaN or infinity; null where all is finite. */
  readonly firstNonFiniteBytes: number | null;
  /** From startStep to the end. */
  readonly totalMs: number;
  /** From the last own bucket's readiness to the end: what communication added to the step. */
  readonly exposedMs: number;
  readonly addMs: number;
  readonly verifyMs: number;
  readonly normMs: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** lastArrivals[rank]: how many pieces of the own chunk waited for this rank last; the slowest rank has the most. */
  readonly lastArrivals: readonly number[];
}

interface TallyComponents {
  readonly arena: Arena;
  readonly plan: BucketPlan;
}

export class StepTally {
  readonly #arena: Arena;
  readonly #plan: BucketPlan;
  readonly #shape: ExchangeShape;
  readonly #verify: boolean;
  readonly #clock: Clock;
  readonly #startMs: number;
  readonly #lastArrivals: number[];
  /** Pieces of each bucket that are not final yet. */
  readonly #openPieces: number[];
  readonly #bucketSquares: number[];
  readonly #pieceCrcs = new Map<number, number>();
  #readyMs: number;
  #progressMs: number;
  #addMs = 0;
  #verifyMs = 0;
  #normMs = 0;
  #sentBytes = 0;
  #receivedBytes = 0;

  constructor({ arena, plan }: TallyComponents, shape: ExchangeShape, verify: boolean, clock: Clock) {
    this.#arena = arena;
    this.#plan = plan;
    this.#shape = shape;
    this.#verify = verify;
    this.#clock = clock;
    this.#startMs = clock.monotonicMs();
    this.#readyMs = this.#startMs;
    this.#progressMs = this.#startMs;
    this.#lastArrivals = new Array<number>(shape.worldSize).fill(0);
    this.#bucketSquares = new Array<number>(shape.numBuckets).fill(0);
    this.#openPieces = new Array<number>(shape.numBuckets).fill(0);
    for (const { bucket } of shape.pieces.flat()) this.#openPieces[bucket]!++;
  }

  get lastProgressMs(): number {
    return this.#progressMs;
  }

  progress(): void {
    this.#progressMs = this.#clock.monotonicMs();
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

  verified(ms: number): void {
    this.#verifyMs += ms;
  }

  reduced(lastRank: number, ms: number): void {
    this.#lastArrivals[lastRank]!++;
    this.#addMs += ms;
  }

  /** The final bytes of a piece lie in slot 0. @param pieceCrc32 ignored where verification is off */
  pieceDone(piece: Piece, pieceCrc32: number): void {
    this.#pieceCrcs.set(piece.offsetBytes, pieceCrc32);
    if (--this.#openPieces[piece.bucket]! > 0) return;
    const { startBytes, endBytes } = this.#plan.buckets[piece.bucket]!;
    if (startBytes >= this.#plan.gradientBytes) return; // the scalars
    const startMs = this.#clock.monotonicMs();
    const at = this.#arena.slotAddress(0, startBytes);
    this.#bucketSquares[piece.bucket] = this.#arena.kernels.sumOfSquares(at, endBytes - startBytes);
    this.#normMs += this.#clock.monotonicMs() - startMs;
  }

  /** After every piece is done. */
  finish(): StepResult {
    const digest = this.#computeDigest();
    const sumOfSquares = this.#bucketSquares.reduce((sum, squares) => sum + squares, 0);
    const nowMs = this.#clock.monotonicMs();
    return {
      digest,
      sumOfSquares,
      firstNonFiniteBytes: Number.isFinite(sumOfSquares) ? null : this.#findNonFinite(),
      totalMs: nowMs - this.#startMs,
      exposedMs: nowMs - this.#readyMs,
      addMs: this.#addMs,
      verifyMs: this.#verifyMs,
      normMs: this.#normMs,
      sentBytes: this.#sentBytes,
      receivedBytes: this.#receivedBytes,
      lastArrivals: this.#lastArrivals,
    };
  }

  #computeDigest(): number {
    if (!this.#verify) return crc32(this.#arena.bytes(this.#arena.slotAddress(0, 0), this.#plan.totalBytes));
    const pieces = this.#shape.pieces.flat().sort((a, b) => a.offsetBytes - b.offsetBytes);
    return pieces.reduce(
      (digest, { offsetBytes, byteLength }) => combineCrc32(digest, this.#pieceCrcs.get(offsetBytes) ?? 0, byteLength),
      0,
    );
  }

  #findNonFinite(): number | null {
    const start = this.#arena.slotAddress(0, 0);
    const found = this.#arena.kernels.findNonFinite(start, this.#plan.gradientBytes);
    return found === null ? null : found - start;
  }
}
