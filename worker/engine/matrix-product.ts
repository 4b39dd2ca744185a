/**
 * How products of batches of matrices, with either side transposed, are made of plain row-major products and transpositions: which of two
 * equal forms moves fewer elements beside the product itself. Knows nothing of tensors: matrices are addresses (bytes) in one float32 memory.
 */
import { assertInvariant } from '../../shared/errors.ts';

export interface MatrixBatch {
  /** Of the first matrix; the others follow it without gaps. */
  readonly address: number;
  /** Matrices in the batch; 1 is used again for each matrix of the other side. */
  readonly count: number;
  /** As stored. */
  readonly rows: number;
  readonly columns: number;
  /** The product takes the transpose of each matrix. */
  readonly isTransposed: boolean;
}

/** What the memory can do. Addresses and sizes as above. */
export interface ProductMachine {
  /** out [m, n] = a [m, k] · b [k, n] */
  multiply(a: number, b: number, out: number, m: number, k: number, n: number): void;
  /** to [columns, rows] = from [rows, columns] transposed */
  transpose(from: number, to: number, rows: number, columns: number): void;
  /** Gives `use` the address of memory that is free again afterwards. */
  withScratch(numElements: number, use: (address: number) => void): void;
}

const BYTES = 4;

/** out[i] [m, n] = a[i] · b[i], where a[i] and b[i] stand for their transposes if so marked. */
export function multiplyBatches(machine: ProductMachine, a: MatrixBatch, b: MatrixBatch, out: number): void {
  const [m, k] = a.isTransposed ? [a.columns, a.rows] : [a.rows, a.columns];
  const [k2, n] = b.isTransposed ? [b.columns, b.rows] : [b.rows, b.columns];
  assertInvariant(k === k2, `product of [${m}, ${k}] and [${k2}, ${n}]`);
  assertInvariant(a.count === b.count || a.count === 1 || b.count === 1, `batches of ${a.count} and ${b.count}`);
  const isFlipped = isFlippedCheaper(a.isTransposed, b.isTransposed, m, k, n);
  for (let i = 0; i < Math.max(a.count, b.count); i++) {
    const ai = a.address + (a.count === 1 ? 0 : i * m * k * BYTES);
    const bi = b.address + (b.count === 1 ? 0 : i * k * n * BYTES);
    const outi = out + i * m * n * BYTES;
    if (!isFlipped)
      withOriented(machine, ai, a.rows, a.columns, a.isTransposed, (left) =>
        withOriented(machine, bi, b.rows, b.columns, b.isTransposed, (right) =>
          machine.multiply(left, right, outi, m, k, n),
        ),
      );
    else
      withOriented(machine, bi, b.rows, b.columns, !b.isTransposed, (left) =>
        withOriented(machine, ai, a.rows, a.columns, !a.isTransposed, (right) =>
          machine.withScratch(m * n, (flipped) => {
            machine.multiply(left, right, flipped, n, k, m);
            machine.transpose(flipped, outi, n, m);
          }),
        ),
      );
  }
}

/** Time to pack an element of a right side for XNNPACK, in times of transposing one: about 6 ns to 2.5 ns where it was measured. */
const PACKING = 2.5;

/** a·b as (bᵀ·aᵀ)ᵀ: it pays where what is transposed and packed is smaller then. */
function isFlippedCheaper(transposeA: boolean, transposeB: boolean, m: number, k: number, n: number): boolean {
  const plain = (transposeA ? m * k : 0) + (transposeB ? k * n : 0) + PACKING * k * n;
  const flipped = (transposeA ? 0 : m * k) + (transposeB ? 0 : k * n) + m * n + PACKING * m * k;
  return flipped < plain;
}

function withOriented(
  machine: ProductMachine,
  address: number,
  rows: number,
  columns: number,
  isTransposed: boolean,
  use: (address: number) => void,
): void {
  if (!isTransposed) {
    use(address);
    return;
  }
  machine.withScratch(rows * columns, (scratch) => {
    machine.transpose(address, scratch, rows, columns);
    use(scratch);
  });
}
