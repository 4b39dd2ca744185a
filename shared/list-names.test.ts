import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { listRanks, listNames } from './list-names.ts';

describe('a list in a sentence', () => {
  for (const [names, expected] of [
    [[], ''],
    [['a'], 'a'],
    [['a', 'b'], 'a and b'],
    [['a', 'b', 'c'], 'a, b and c'],
  ] as const)
    test(`of ${names.length} names is "${expected}"`, () => {
      assert.equal(listNames(names), expected);
    });

  test('has the same length for a thousand names as for thirteen', () => {
    const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `w${i}`);
    assert.equal(listNames(names(12)), 'w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10 and w11');
    assert.equal(listNames(names(1000)), 'w0, w1, w2, w3, w4, w5, w6, w7, w8, w9, w10, w11 and 988 more');
  });

  test('one rank is named in the singular', () => {
    assert.equal(listRanks([2]), 'rank 2');
    assert.equal(listRanks([0, 2]), 'ranks 0 and 2');
  });

  test('the most names and the separator can be given', () => {
    assert.equal(listNames(['a', 'b', 'c'], { most: 2 }), 'a, b and 1 more');
    assert.equal(listNames(['a', 'b'], { most: 1 }), 'a and 1 more');
    assert.equal(listNames(['a, b', 'c', 'd'], { separator: '; ' }), 'a, b; c; d');
  });
});
