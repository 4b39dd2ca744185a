/** Synthetic lane gradients, and their rounding, sum and checksum by slow, plain definitions: the oracle of the all-reduce's tests. */
import { crc32 } from 'node:zlib';
import { RandomStream } from '../../shared/random.ts';
import type { BucketPlan, GradientPrecision } from '../arena/bucket-plan.ts';

/**
 * Values over many magnitudes, so that the order of additions shows in the bits; zero in the padding.
 * @returns [plan.gradientBytes / 4]
 */
export function makeLaneGradient(
  plan: BucketPlan,
  seed: number,
  step: number,
  lane: number,
): Float32Array<ArrayBuffer> {
  const random = new RandomStream([seed, step, lane]);
  const gradient = new Float32Array(plan.gradientBytes / 4);
  for (const { offsetBytes, numElements } of plan.parameters)
    for (let i = 0; i < numElements; i++) {
      const bits = random.nextUint32();
      gradient[offsetBytes / 4 + i] = (bits | 0) * 2 ** ((bits & 15) - 39);
    }
  return gradient;
}

/** ((l0+l1)+(l2+l3))+…, each lane and each sum rounded. @param lanes a power of two of equally long arrays */
export function sumNaively(
  lanes: readonly Float32Array<ArrayBuffer>[],
  precision: GradientPrecision = 'float32',
): Float32Array<ArrayBuffer> {
  const round = (x: number): number => (precision === 'float32' ? x : roundNaively(x));
  if (lanes.length === 1) return lanes[0]!.map(round);
  const left = sumNaively(lanes.slice(0, lanes.length / 2), precision);
  const right = sumNaively(lanes.slice(lanes.length / 2), precision);
  return left.map((x, i) => round(x + right[i]!));
}

/** The nearest bfloat16, of two equally near the even one, by the arithmetic of its definition: 8 bits of significand, exponents −126 … 127. */
export function roundNaively(x: number): number {
  if (!Number.isFinite(x) || x === 0) return x;
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, x);
  const exponent = Math.max(((bits.getUint16(0) >> 4) & 0x7ff) - 1023, -126);
  const unit = 2 ** (exponent - 7);
  const below = Math.floor(x / unit);
  const rest = x / unit - below;
  const nearest = rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
  const rounded = nearest * unit;
  if (Math.abs(rounded) >= 2 ** 128) return Math.sign(x) * Infinity;
  return rounded === 0 ? Math.sign(x) * 0 : rounded;
}

/** line-checksum.ts by its definition, word by word. @param bytes whole 64-byte lines */
export function checksumNaively(bytes: Buffer): number {
  const [sums, weighted, remainders] = [new Uint32Array(16), new Uint32Array(16), new Uint32Array(4)];
  for (let at = 0; at < bytes.length; at += 64) {
    const folded = new Uint32Array(4);
    for (let column = 0; column < 16; column++) {
      const x = bytes.readUInt32LE(at + 4 * column);
      sums[column]! += x;
      weighted[column]! += sums[column]!;
      folded[column % 4]! ^= x;
    }
    folded.forEach((x, j) => {
      remainders[j] = (remainders[j]! << 1) ^ (remainders[j]! >>> 31 === 1 ? 0x04c11db7 : 0) ^ x;
    });
  }
  return crc32(Buffer.concat([sums, weighted, remainders].map(({ buffer }) => Buffer.from(buffer))));
}
