import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { RandomStream } from '../../shared/random.ts';
import { createFeistel, createInversePermutation, createPermutation, MAX_EXAMPLES } from './permutation.ts';

const upTo = (size: number) => Array.from({ length: size }, (_, k) => k);
const orderOf = (names: readonly number[], size: number) => upTo(size).map(createPermutation(names, size));

/** (χ² − degrees of freedom) / √(2 · degrees of freedom): about standard normal if all cells are equally likely. */
function chiSquareScore(counts: ArrayLike<number>): number {
  const cells = Array.from(counts);
  const expected = cells.reduce((a, b) => a + b, 0) / cells.length;
  const chiSquare = cells.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
  return (chiSquare - (cells.length - 1)) / Math.sqrt(2 * (cells.length - 1));
}

const factorial = (n: number): number => (n < 2 ? 1 : n * factorial(n - 1));

/** Rank of a permutation among all of its length. */
function rankOf(order: readonly number[]): number {
  return order.reduce(
    (rank, value, i) => rank * (order.length - i) + order.slice(i + 1).filter((later) => later < value).length,
    0,
  );
}

/**
 * Score of the pair of positions of the examples k and k + apart, in 16 × 16 cells, over many keys. 16 divides the size
 * of a cell. A pair never meets in one position, so cells on the diagonal are slightly rarer; this number of keys does
 * not show it.
 */
function scorePairs(size: number, apart: number, permutationOf: (key: number) => (k: number) => number): number {
  const counts = new Uint32Array(256);
  for (let key = 0; key < 20_000; key++) {
    const permute = permutationOf(key);
    const cell = 16 * Math.floor((16 * permute(3)) / size) + Math.floor((16 * permute(3 + apart)) / size);
    counts[cell] = counts[cell]! + 1;
  }
  return chiSquareScore(counts);
}

describe('keyed permutations', () => {
  test('are bijections for each size from 1 to 400, and so is the Feistel network alone', () => {
    for (const size of upTo(401).slice(1)) {
      const feistel = createFeistel(new RandomStream([size]), size, 10);
      for (const order of [orderOf([size], size), upTo(size).map(feistel)])
        assert.equal(new Set(order.filter((at) => at >= 0 && at < size)).size, size, `size ${size}`);
    }
  });

  test('the inverse undoes them, for small orders, networks and the largest size', () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.constantFrom(1, 2, 200, 256, 257, 5000, 1_000_003, MAX_EXAMPLES),
        fc.nat(),
        (key, size, at) => {
          const k = at % size;
          assert.equal(createInversePermutation([key], size)(createPermutation([key], size)(k)), k);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('are bijections for any key and size', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(), { maxLength: 4 }), fc.integer({ min: 1, max: 20_000 }), (names, size) => {
        const seen = new Uint8Array(size);
        for (const at of orderOf(names, size)) seen[at] = 1;
        assert.ok(seen.every((flag) => flag === 1));
      }),
      { numRuns: 60 },
    );
  });

  test('stay in range without repeats at the largest sizes', () => {
    for (const size of [MAX_EXAMPLES, 2 ** 31 - 2, 2 ** 30, 46_340 ** 2 + 1]) {
      const permute = createPermutation([11], size);
      const places = [0, 1, size - 1, size - 2, ...upTo(2000).map((i) => 2 + i * 997)].map(permute);
      assert.equal(new Set(places).size, places.length);
      assert.ok(places.every((at) => Number.isInteger(at) && at >= 0 && at < size));
    }
  });

  for (const size of [200, 1000])
    test(`of ${size} are pure functions of their key and differ by seed, task and epoch`, () => {
      const order = orderOf([7, 8, 0], size);
      assert.deepEqual(orderOf([7, 8, 0], size), order);
      for (const other of [
        [7, 8, 1],
        [7, 9, 0],
        [6, 8, 0],
      ]) {
        const fixed = orderOf(other, size).filter((at, k) => at === order[k]).length;
        assert.ok(fixed < 12, `${fixed} of ${size} places are equal; about 1 is expected`);
      }
    });

  for (const size of [2, 3, 4, 5, 6])
    test(`all ${factorial(size)} orders of ${size} examples are equally likely (chi-square over 12,000 keys)`, () => {
      const counts = new Uint32Array(factorial(size));
      for (let key = 0; key < 12_000; key++) {
        const rank = rankOf(orderOf([key], size));
        counts[rank] = counts[rank]! + 1;
      }
      const score = chiSquareScore(counts);
      assert.ok(Math.abs(score) < 4, `score ${score}`);
    });

  for (const size of [272, 4096, 1_000_000])
    for (const apart of [1, Math.ceil(Math.sqrt(size))])
      test(`two of ${size} examples, ${apart} apart, have independent positions (chi-square over 20,000 keys)`, () => {
        const score = scorePairs(size, apart, (key) => createPermutation([5, key], size));
        assert.ok(Math.abs(score) < 4, `score ${score}`);
      });

  test('that test detects a network of two Feistel rounds', () => {
    const score = scorePairs(4096, 64, (key) => createFeistel(new RandomStream([5, key]), 4096, 2));
    assert.ok(score > 20, `score ${score}`);
  });

  for (const size of [0, -1, 1.5, MAX_EXAMPLES + 1, NaN])
    test(`rejects the size ${size}`, () => {
      assert.throws(() => createPermutation([1], size), { code: 'CONFIG_INVALID' });
    });
});
