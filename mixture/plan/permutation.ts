/**
 * Keyed permutations of [0, n) in O(1) time and memory: π(seed, task, epoch) gives the order of a task's examples in one epoch,
 * so that no shuffle buffer is held or saved and any draw can be computed alone.
 *
 * Definition: k = left · b + right on the grid a × b, a = ⌈√n⌉, b = ⌈n/a⌉ (a·b − n < a cells too many). A Feistel round adds a hash
 * of one half to the other, modulo its size, which is a bijection of the grid for any hash; a result ≥ n is sent round again
 * (cycle walking), which keeps the bijection on [0, n) and needs 1 + O(1/√n) passes on average.
 * The round keys come from a Philox stream named by the key; the round function is the 32-bit mixer `lowbias32` of (half ⊕ key).
 *
 * Rounds: 4 cannot be told from a random permutation by few values (Luby–Rackoff), but an epoch looks at all of them; 10 is what NIST
 * chose for such small domains (SP 800-38G, FF1). Chi-square of pairs over 200,000 keys tells 4 rounds from uniform (n = 4096) and
 * not 6; the test keeps a smaller form of it. A call costs 0.1 µs.
 * On tiny grids no number of rounds is enough (odd × odd grids have even permutations only; chi-square over all orders of 5 to 9 examples
 * shows it), so up to 256 examples the order is a keyed Fisher–Yates shuffle, which is exactly uniform.
 */

import { TrainerError } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';

/** Largest n: an example number must fit the int32 arrays in which a plan is held. */
export const MAX_EXAMPLES = 2 ** 31 - 1;
const MAX_SHUFFLED = 256;
const NUM_ROUNDS = 10;

/** The names of the order of a task's examples in an epoch. */
export function exampleOrderNames(seed: number, task: string, epoch: number): number[] {
  return [seed, hashName('example-order'), hashName(task), epoch];
}

/**
 * The permutation of [0, size) named by `names`, e.g. `exampleOrderNames`.
 * @returns k → π(k); k must be an integer in [0, size)
 * @throws CONFIG_INVALID where size is not in [1, MAX_EXAMPLES]
 */
export function createPermutation(names: readonly number[], size: number): (k: number) => number {
  checkSize(size);
  const stream = new RandomStream(names);
  if (size > MAX_SHUFFLED) return createFeistel(stream, size, NUM_ROUNDS);
  const order = shuffledOrder(stream, size);
  return (k) => order[k]!;
}

/**
 * The inverse of `createPermutation` with the same arguments: π(k) → k, as fast. The ledger finds by it which draw an example was.
 * @throws CONFIG_INVALID as there
 */
export function createInversePermutation(names: readonly number[], size: number): (place: number) => number {
  checkSize(size);
  const stream = new RandomStream(names);
  if (size > MAX_SHUFFLED) return createInverseFeistel(stream, size, NUM_ROUNDS);
  const places = new Int32Array(size);
  shuffledOrder(stream, size).forEach((index, k) => {
    places[index] = k;
  });
  return (place) => places[place]!;
}

/**
 * The Feistel network of `createPermutation`, for any size; exported so that its rounds can be judged.
 * @param numRounds even
 */
export function createFeistel(stream: RandomStream, size: number, numRounds: number): (k: number) => number {
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

/** The rounds of `createFeistel` backwards; numbers outside [0, size) are walked through the other way. */
function createInverseFeistel(stream: RandomStream, size: number, numRounds: number): (place: number) => number {
  const roundKeys = Uint32Array.from({ length: numRounds }, () => stream.nextUint32());
  const leftSize = Math.ceil(Math.sqrt(size));
  const rightSize = Math.ceil(size / leftSize);
  const leftScale = leftSize / 2 ** 32;
  const rightScale = rightSize / 2 ** 32;
  return (place) => {
    let k = place;
    do {
      let left = Math.floor(k / rightSize);
      let right = k - left * rightSize;
      for (let round = numRounds - 2; round >= 0; round -= 2) {
        right -= (mix(left ^ roundKeys[round + 1]!) * rightScale) | 0;
        if (right < 0) right += rightSize;
        left -= (mix(right ^ roundKeys[round]!) * leftScale) | 0;
        if (left < 0) left += leftSize;
      }
      k = left * rightSize + right;
    } while (k >= size);
    return k;
  };
}

/** Up to MAX_SHUFFLED examples: their order, exactly uniform over all orders. */
function shuffledOrder(stream: RandomStream, size: number): Int32Array {
  const order = Int32Array.from({ length: size }, (_, k) => k);
  stream.shuffle(order);
  return order;
}

function checkSize(size: number): void {
  if (!Number.isInteger(size) || size < 1 || size > MAX_EXAMPLES)
    throw new TrainerError(
      'CONFIG_INVALID',
      `permutation: expected a size from 1 to ${MAX_EXAMPLES}, found ${size}; split a task that is larger`,
    );
}

/** lowbias32 (C. Wellons, "Prospecting for hash functions"): a bijection of uint32 in which every input bit moves every output bit. */
function mix(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}
