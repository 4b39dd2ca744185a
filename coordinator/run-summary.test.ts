import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { predictRunOf } from './run-summary.ts';

const TRAINING = { training: { rowsPerStep: 32, numLanes: 4, microbatchRows: 4 } } as Parameters<
  typeof predictRunOf
>[2];
const RUNS = [
  { first: 0, end: 3 },
  { first: 3, end: 4 },
];

describe('prediction of a generation', () => {
  test('the slowest rank decides the time, the largest process the memory', () => {
    const members = [
      { facts: { predicted: { microbatchMs: 10, updateMs: 5, workerBytes: 100 } } },
      { facts: { predicted: { microbatchMs: 40, updateMs: 1, workerBytes: 300 } } },
    ];
    // Two microbatches a lane: rank 0 has 3 · 2 · 10 + 5, rank 1 has 1 · 2 · 40 + 1.
    assert.deepEqual(predictRunOf(members, RUNS, TRAINING), { stepMs: 81, workerBytes: 300 });
  });

  test('without the prediction of one worker there is none', () => {
    const members = [{ facts: { predicted: { microbatchMs: 10, updateMs: 5, workerBytes: 100 } } }, { facts: {} }];
    assert.equal(predictRunOf(members, RUNS, TRAINING), undefined);
  });
});
