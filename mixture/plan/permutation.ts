/**
 * Keyed permutations of [0, n) in O(1) time and memory: π(seed, task, epoch) gives the order of a task's examples in one epoch,
 * so that no shuffle buffer is held or saved and any draw can be computed alone.
 *
 * Definition: k = left · b + right on the grid a × b, a = ⌈√n⌉, b = ⌈n/a⌉ (a·b − n < a cells too many). A Feistel round adds a hash
 * of one half to the other, modulo its size, which is a bijection of the grid for any hash; a result ≥ n is sent round again
 * (cycle walking), which keeps the bijection on [0, n) and needs 1 + O(1/√n) passes on average.
 * The round keys come from a Philox stream named by the key; the round function is the 32-bit mixer `lowbias32` of (half ⊕ key).
 *
 * Rounds: Luby–Rackoff needs 4 for a permutation that cannot be told from a random one; Patarin needs more as one looks at nearly
 * all values, which an epoch does. On the smallest domains, where a hash has few values, chi-square over whole permutations tells
 * 4 from uniform and not 6 or 8 (the test shows it); 8 leaves a margin and costs tens of nanoseconds.
 */

import { TrainerError } from '../../shared/errors.ts';
import { RandomStream } from '../../shared/random.ts';

/** Largest n: an example number must fit the int32 arrays in which a plan is held. */
export const MAX_EXAMPLES = 2 ** 31 - 1;
const NUM_ROUNDS = 8;

/**
 * The permutation of [0, size) named by `names`, e.g. (seed, hashName('example-order'), hashName(task), epoch).
 * @param numRounds only for the test that shows what fewer rounds do
 * @returns k → π(k); k must be an integer in [0, size)
 * @throws CONFIG_INVALID where size is not in [1, MAX_EXAMPLES]
 */
export function createPermutation(
  names: readonly number[],
  size: number,
  numRounds: number = NUM_ROUNDS,
): (k: number) => number {
  if (!Number.isInteger(size) || size < 1 || size > MAX_EXAMPLES)
    throw new TrainerError(
      'CONFIG_INVALID',
      `permutation: expected a size from 1 to ${MAX_EXAMPLES}, found ${size}; split a task that is larger`,
    );
  const stream = new RandomStream(names);
  const roundKeys = Uint32Array.from({ length: numRounds }, () => stream.nextUint32());
  const leftSize = Math.ceil(Math.sqrt(size));
  const rightSize = Math.ceil(size / leftSize);
  // A hash times its scale, cut to an integer, is a number below the half's size: faster than a remainder, with the same tiny bias.
  const leftScale = leftSize / 2 ** 32;
  const rightScale = rightSize / 2 ** 32;
  return (k) => {
    let place = k;
    do {
      let left = Math.floor(place / rightSize);
      let right = place - left * rightSize;
      for (let round = 0; round < numRounds; round += 2) {
        left += (mix(right ^ roundKeys[round]!) * leftScale) | 0;
        if (left >= leftSize) left -= leftSize;
        right += (mix(left ^ roundKeys[round + 1]!) * rightScale) | 0;
        if (right >= rightSize) right -= rightSize;
      }
      place = left * rightSize + right;
    } while (place >= size);
    return place;
  };
}

/** lowbias32 (C. Wellons, "Prospecting for hash functions"): a bijection of uint32 in which every input bit moves every output bit. */
function mix(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}
