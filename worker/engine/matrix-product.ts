/**
 * Products of batches of matrices, with either side transposed, by plain row-major products and transpositions. Of two equal forms it takes the
 * one that moves fewer elements beside the product. Knows no tensors: matrices are addresses (bytes) in one float32 memory.
 */
import { assertInvariant } from '../../shared/errors.ts';

export interface MatrixBatch {
  /** Address of the first matrix; the others follow without gaps. */
  readonly address: number;
  /** Matrices in the batch; a single one is used for each matrix of the other side. */
  readonly count: number;
  /** As stored. */
  readonly rows: number;
  readonly columns: number;
  /** The product takes the transpose of each matrix. */
  readonly isTransposed: boolean;
}

/** The two operations on the memory, and scratch memory. Addresses and sizes as above. */
export interface ProductMachine {
  /** out [m, n] = a [m, k] · b [k, n] */
  multiply(a: number, b: number, out: number, m: number, k: number, n: number): void;
  /** to [columns, rows] = from [rows, columns] transposed */
  transpose(from: number, to: number, rows: number, columns: number): void;
  /** Calls `use` with the address of memory that is freed afterwards. */
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

/** Time for XNNPACK to pack an element of a right side, in units of transposing one: measured about 6 ns to 2.5 ns. */
const PACKING = 2.5;

/** Whether a·b as (bᵀ·aᵀ)ᵀ transposes and packs fewer elements. */
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
