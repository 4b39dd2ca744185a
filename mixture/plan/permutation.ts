/**
 * Keyed permutations of [0, n) in O(1) time and memory. π(seed, task, epoch) is the order of a task's examples in one
 * epoch. So no shuffle buffer is kept or saved, and each draw can be computed alone.
 *
 * Definition: k = left · b + right on the grid a × b, with a = ⌈√n⌉ and b = ⌈n/a⌉ (a·b − n < a cells too many). A
 * Feistel round adds a hash of one half to the other half, modulo its size. This is a bijection of the grid for any
 * hash. A result ≥ n goes through the rounds again (cycle walking), which keeps the bijection on [0, n) and needs 1 +
 * O(1/√n) passes on average. The round keys come from a Philox stream named by the key. The round function is the
 * 32-bit mixer `lowbias32` of (half ⊕ key).
 *
 * Rounds: few values cannot distinguish 4 rounds from a random permutation (Luby–Rackoff), but an epoch uses all
 * values. NIST chose 10 for such small domains (SP 800-38G, FF1). A chi-square test of pairs over 200,000 keys rejects
 * 4 rounds (n = 4096) and does not reject 6; our test is a smaller form of it. A call costs 0.1 µs. On tiny grids no
 * number of rounds is enough: odd × odd grids have only even permutations, and chi-square over all orders of 5 to 9
 * examples shows it. So up to 256 examples the order is a keyed Fisher–Yates shuffle, which is exactly uniform.
 */

import { TrainerError } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';

/** Largest n: example numbers must fit the int32 arrays of a plan. */
export const MAX_EXAMPLES = 2 ** 31 - 1;
const MAX_SHUFFLED = 256;
const NUM_ROUNDS = 10;

/** The name of the stream for the order of a task in an epoch. */
export function exampleOrderNames(seed: number, task: string, epoch: number): number[] {
  return [seed, hashName('example-order'), hashName(task), epoch];
}

/**
 * The permutation of [0, size) named by `names`, e.g. `exampleOrderNames`.
 * @returns k → π(k); k must be an integer in [0, size)
 * @throws CONFIG_INVALID if size is not in [1, MAX_EXAMPLES]
 */
export function createPermutation(names: readonly number[], size: number): (k: number) => number {
  checkSize(size);
  const stream = new RandomStream(names);
  if (size > MAX_SHUFFLED) return createFeistel(stream, size, NUM_ROUNDS);
  const order = shuffledOrder(stream, size);
  return (k) => order[k]!;
}

/**
 * The inverse of `createPermutation` for the same arguments: π(k) → k, equally fast. The ledger uses it to find the
 * draw of an example.
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
 * The Feistel network of `createPermutation`, for any size. Exported so that tests can judge its rounds.
 * @param numRounds even
 */
export function createFeistel(stream: RandomStream, size: number, numRounds: number): (k: number) => number {
  const roundKeys = Uint32Array.from({ length: numRounds }, () => stream.nextUint32());
  const leftSize = Math.ceil(Math.sqrt(size));
  const rightSize = Math.ceil(size / leftSize);
  // A hash times its scale, truncated, is an integer below the size of the half. Faster than a remainder, with the same
  // tiny bias.
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

/** The rounds of `createFeistel` in reverse. Numbers outside [0, size) are walked in reverse too. */
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

/** The order of up to MAX_SHUFFLED examples, exactly uniform over all orders. */
function shuffledOrder(stream: RandomStream, size: number): Int32Array {
  const order = Int32Array.from({ length: size }, (_, k) => k);
  stream.shuffle(order);
  return order;
}

function checkSize(size: number): void {
  if (!Number.isInteger(size) || size < 1 || size > MAX_EXAMPLES)
    throw new TrainerError(
      'CONFIG_INVALID',
      `permutation: expected a size from 1 to ${MAX_EXAMPLES}, found ${size}; split a larger task`,
    );
}

/** lowbias32 (C. Wellons, "Prospecting for hash functions"): a bijection of uint32 in which every input bit moves every output bit. */
function mix(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}
