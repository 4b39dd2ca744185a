/**
 * The SIMD kernels of kernels.wat bound to one arena memory. Every thread makes its own instance over the same memory.
 * Addresses and lengths are bytes below 4 GiB, multiples of 64; a target may be one of the operands (same address).
 */
import { TrainerError } from '../../shared/errors.ts';
import type { GradientPrecision } from './bucket-plan.ts';
import { KERNELS_BASE64 } from './kernels-wasm.ts';

export interface Kernels {
  /** target ← a + b, rounded to the precision of gradients */
  add2(target: number, a: number, b: number, length: number): void;
  /** target ← (a + b) + (c + d), each sum rounded; overwrites a and c */
  add4(target: number, a: number, b: number, c: number, d: number, length: number): void;
  /** Rounds in place to the precision of gradients: to nearest, ties to even, a NaN to 0x7fc00000. Float32 stays as it is. */
  round(at: number, length: number): void;
  /** `length` bytes of rounded float32 → length/2 bytes of bfloat16. The target may be the source. */
  narrow(target: number, source: number, length: number): void;
  /** length/2 bytes of bfloat16 → `length` bytes of float32. The source may be the second half of the target. */
  widen(target: number, source: number, length: number): void;
  /** Σ x² in float64; element i goes to accumulator i mod 8, the eight are added pairwise. Finite exactly if all x are. */
  sumOfSquares(at: number, length: number): number;
  /** Continues the 144-byte checksum state at `state` (line-checksum.ts) with whole 64-byte lines. */
  lineChecksum(state: number, at: number, length: number): void;
  /** Address of the first 16-byte group that holds a NaN or an infinity, or null. */
  findNonFinite(at: number, length: number): number | null;
}

type NumericExport = (...addresses: number[]) => number;

const MODULE = new WebAssembly.Module(Buffer.from(KERNELS_BASE64, 'base64'));

/** @param memory shared @param precision of the sums */
export function bindKernels(memory: WebAssembly.Memory, precision: GradientPrecision): Kernels {
  const { exports } = new WebAssembly.Instance(MODULE, { arena: { memory } });
  const exportOf = (name: string): NumericExport => {
    const value = exports[name];
    if (typeof value !== 'function') throw new TrainerError('INTERNAL', `kernels.wat exports no function ${name}`);
    return value as NumericExport;
  };
  const findNonFinite = exportOf('findNonFinite');
  return {
    ...(precision === 'float32' ? bindFloat32(exportOf) : bindBfloat16(exportOf)),
    narrow: exportOf('narrowBfloat16'),
    widen: exportOf('widenBfloat16'),
    sumOfSquares: exportOf('sumOfSquares'),
    lineChecksum: exportOf('lineChecksum'),
    findNonFinite(at, length) {
      const found = findNonFinite(at, length) >>> 0;
      return found === (at + length) % 2 ** 32 ? null : found;
    },
  };
}

type Arithmetic = Pick<Kernels, 'add2' | 'add4' | 'round'>;

function bindFloat32(exportOf: (name: string) => NumericExport): Arithmetic {
  return { add2: exportOf('add2'), add4: exportOf('add4'), round: () => undefined };
}

function bindBfloat16(exportOf: (name: string) => NumericExport): Arithmetic {
  const add2 = exportOf('addBfloat16');
  return {
    add2,
    add4(target, a, b, c, d, length) {
      add2(a, a, b, length);
      add2(c, c, d, length);
      add2(target, a, c, length);
    },
    round: exportOf('roundBfloat16'),
  };
}
