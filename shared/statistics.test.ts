import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { lowerMedian, mean, median } from './statistics.ts';

describe('figures of many measurements', () => {
  for (const [values, expected] of [
    [[], [Number.NaN, Number.NaN, Number.NaN]],
    [[3], [3, 3, 3]],
    [
      [10, 2],
      [6, 10, 2],
    ],
    [
      [9, 1, 2],
      [4, 2, 2],
    ],
    [
      [100, 20, 3, 5],
      [32, 20, 5],
    ],
  ] as const)
    test(`of [${values.join(', ')}] mean, median and lower median are ${expected.join(', ')}`, () => {
      assert.deepEqual([mean(values), median(values), lowerMedian(values)], expected);
    });

  test('the input keeps its order', () => {
    const values = [3, 1, 2];
    median(values);
    lowerMedian(values);
    assert.deepEqual(values, [3, 1, 2]);
  });
});
