import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { greedyDecode } from './generate.ts';

describe('greedy decoding', () => {
  test('takes the likeliest token, stops a row at EOS, and stops altogether when all rows have', async () => {
    const script = [
      [4, 1, 9, 9, 9],
      [3, 2, 1, 9, 9],
    ];
    const asked: number[] = [];
    const found = await greedyDecode(2, 5, (sequences, position) => {
      asked.push(position);
      assert.equal(sequences[0], 0);
      const logits = new Float32Array(2 * 10).fill(-1);
      script.forEach((row, i) => (logits[i * 10 + row[position]!] = 5));
      return Promise.resolve(logits);
    });
    assert.deepEqual([...found], [0, 4, 1, 0, 0, 0, 0, 3, 2, 1, 0, 0]);
    assert.deepEqual(asked, [0, 1, 2]);
  });

  test('of two equal logits takes the lower id, and no longer than it may', async () => {
    const found = await greedyDecode(1, 3, () => Promise.resolve(Float32Array.of(0, 0, 7, 7)));
    assert.deepEqual([...found], [0, 2, 2, 2]);
  });
});
