/** Compares a recorded graph's results with those of eager tfjs. Pure; sums in float64. */
import { largestDifference, relativeNorm } from '../array-differences.ts';

/**
 * `together`: of all outputs of a kind, relative in the L2 norm. `single`: of one output, its largest difference relative to its largest value.
 * float32: the two sum in another order, which at T5 small moves gradients by 1e-6. bfloat16 has 8 bits of mantissa.
 */
export const PASS_TOLERANCES = {
  float32: { together: 1e-4, single: 1e-3 },
  bfloat16: { together: 5e-2, single: 2.5e-1 },
} as const;

/**
 * @param kind 'step': the first output is the losses, the others gradients; 'score': losses; 'forward': activations
 * @returns a sentence when a tolerance is exceeded or a value is not finite, else undefined
 */
export function differenceOf(
  kind: 'step' | 'score' | 'forward',
  found: readonly Float32Array[],
  expected: readonly Float32Array[],
  precision: keyof typeof PASS_TOLERANCES,
): string | undefined {
  const tolerance = PASS_TOLERANCES[precision];
  const pairs = found.map((values, i) => ({ found: values, expected: expected[i]! }));
  const numLosses = kind === 'step' ? 1 : 0;
  const together = [pairs.slice(0, numLosses), pairs.slice(numLosses)].filter(({ length }) => length > 0);
  for (const part of together) {
    const difference = relativeNorm(part);
    // Not `>`: NaN must be refused. When all expected values are 0, a relative difference is not defined.
    if (!(difference <= tolerance.together) && part.some((pair) => pair.expected.some((value) => value !== 0)))
      return `relative L2 difference ${difference} from eager, at most ${tolerance.together} is allowed`;
  }
  for (const [i, pair] of pairs.entries()) {
    const largest = pair.expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    const difference = largestDifference(pair.found, pair.expected);
    if (!(difference <= tolerance.single * largest))
      return `output ${i} differs by ${difference} from eager where the largest value is ${largest}`;
  }
  return undefined;
}
