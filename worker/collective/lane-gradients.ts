/** Made-up lane gradients and the slow, obvious sum of them: the oracle of the all-reduce's tests and benchmark checks. */
import { RandomStream } from '../../shared/random.ts';
import type { BucketPlan } from './bucket-plan.ts';

/**
 * Values over many magnitudes, so that the order of additions shows in the bits; zero in the padding.
 * @returns [plan.totalBytes / 4]
 */
export function makeLaneGradient(
  plan: BucketPlan,
  seed: number,
  step: number,
  lane: number,
): Float32Array<ArrayBuffer> {
  const random = new RandomStream([seed, step, lane]);
  const gradient = new Float32Array(plan.totalBytes / 4);
  for (const { offsetBytes, numElements } of [...plan.parameters, ...(plan.scalars === null ? [] : [plan.scalars])])
    for (let i = 0; i < numElements; i++) {
      const bits = random.nextUint32();
      gradient[offsetBytes / 4 + i] = (bits | 0) * 2 ** ((bits & 15) - 39);
    }
  return gradient;
}

/** ((l0+l1)+(l2+l3))+… in float32. @param lanes a power of two of equally long arrays */
export function sumNaively(lanes: readonly Float32Array<ArrayBuffer>[]): Float32Array<ArrayBuffer> {
  if (lanes.length === 1) return lanes[0]!;
  const left = sumNaively(lanes.slice(0, lanes.length / 2));
  const right = sumNaively(lanes.slice(lanes.length / 2));
  return left.map((x, i) => x + right[i]!);
}
