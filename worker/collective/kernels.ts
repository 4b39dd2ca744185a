/**
 * The SIMD kernels of kernels.wat bound to one arena memory. Every thread makes its own instance over the same memory.
 * Addresses and lengths are bytes below 4 GiB, multiples of 64; a target may be one of the operands (same address).
 */
import { TrainerError } from '../../shared/errors.ts';
import { KERNELS_BASE64 } from './kernels-wasm.ts';

export interface Kernels {
  /** target ← a + b */
  add2(target: number, a: number, b: number, length: number): void;
  /** target ← (a + b) + (c + d) */
  add4(target: number, a: number, b: number, c: number, d: number, length: number): void;
  /** Σ x² in float64; element i goes to accumulator i mod 8, the eight are added pairwise. Finite exactly if all x are. */
  sumOfSquares(at: number, length: number): number;
  /** Continues the 144-byte checksum state at `state` with whole 64-byte lines; line-checksum.ts says what it is. */
  lineChecksum(state: number, at: number, length: number): void;
  /** Address of the first 16-byte group that holds a NaN or an infinity, or null. */
  findNonFinite(at: number, length: number): number | null;
}

type NumericExport = (...addresses: number[]) => number;

/** @param memory shared, as `createArenaMemory` makes it */
export function bindKernels(memory: WebAssembly.Memory): Kernels {
  const module = new WebAssembly.Module(Buffer.from(KERNELS_BASE64, 'base64'));
  const { exports } = new WebAssembly.Instance(module, { arena: { memory } });
  const take = (name: string): NumericExport => {
    const value = exports[name];
    if (typeof value !== 'function') throw new TrainerError('INTERNAL', `kernels.wat exports no function ${name}`);
    return value as NumericExport;
  };
  const findNonFinite = take('findNonFinite');
  return {
    add2: take('add2'),
    add4: take('add4'),
    sumOfSquares: take('sumOfSquares'),
    lineChecksum: take('lineChecksum'),
    findNonFinite(at, length) {
      const found = findNonFinite(at, length) >>> 0;
      return found === (at + length) % 2 ** 32 ? null : found;
    },
  };
}
