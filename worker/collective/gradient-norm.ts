/**
 * The sum of squares of the reduced gradient, computed while each block is in the cache.
 *
 * Definition. A bucket is cut into blocks of NORM_BLOCK_BYTES from its start. The norm adds the blocks' sums (each in the kernel's fixed
 * order, float64) from first to last within a bucket, then the buckets' sums from first to last. Blocks depend on the bucket plan only, so
 * the value is the same for every world size. A block shared by several pieces is summed when its bucket is complete.
 */
import type { Arena } from '../arena/arena.ts';
import type { Bucket, BucketPlan, Piece } from '../arena/bucket-plan.ts';

/** Fits a core's first cache together with an operand. */
export const NORM_BLOCK_BYTES = 16384;
/** No sum of squares is negative. */
const NOT_SUMMED = -1;

export class GradientNorm {
  readonly #arena: Arena;
  readonly #plan: BucketPlan;
  /** [bucket][block] */
  readonly #squares: readonly Float64Array[];

  constructor({ arena, plan }: { readonly arena: Arena; readonly plan: BucketPlan }) {
    this.#arena = arena;
    this.#plan = plan;
    this.#squares = plan.buckets.map(({ startBytes, endBytes }) => {
      return new Float64Array(Math.ceil((endBytes - startBytes) / NORM_BLOCK_BYTES)).fill(NOT_SUMMED);
    });
  }

  /**
   * Visits a piece block by block.
   * @param pass makes bytes [offset, offset + length) of slot 0 final
   */
  walk(piece: Piece, pass: (offsetBytes: number, byteLength: number) => void): void {
    const bucket = this.#plan.buckets[piece.bucket]!;
    const squares = this.#squares[piece.bucket]!;
    const end = piece.offsetBytes + piece.byteLength;
    for (let at = piece.offsetBytes; at < end;) {
      const block = Math.floor((at - bucket.startBytes) / NORM_BLOCK_BYTES);
      const { start, length } = blockRange(bucket, block);
      const stop = Math.min(start + length, end);
      pass(at, stop - at);
      if (stop - at === length && block < squares.length) squares[block] = this.#sumBlock(start, length);
      at = stop;
    }
  }

  /** Every piece of the bucket is final. */
  endBucket(index: number): void {
    const bucket = this.#plan.buckets[index]!;
    const squares = this.#squares[index]!;
    for (const [block, sum] of squares.entries()) {
      const { start, length } = blockRange(bucket, block);
      if (sum === NOT_SUMMED) squares[block] = this.#sumBlock(start, length);
    }
  }

  /** Σ g²; after every bucket has ended. Finite exactly if every element is. */
  computeSum(): number {
    return this.#squares.reduce((sum, bucket) => sum + bucket.reduce((squares, block) => squares + block, 0), 0);
  }

  #sumBlock(offsetBytes: number, byteLength: number): number {
    return this.#arena.kernels.sumOfSquares(this.#arena.slotAddress(0, offsetBytes), byteLength);
  }
}

function blockRange({ startBytes, endBytes }: Bucket, block: number): { start: number; length: number } {
  const start = startBytes + block * NORM_BLOCK_BYTES;
  return { start, length: Math.min(NORM_BLOCK_BYTES, endBytes - start) };
}
