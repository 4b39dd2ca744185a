import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { predictRunOf } from './predicted-run.ts';

const A = 'a';
const B = 'b';
const TRAINING = { training: { rowsPerStep: 32, numLanes: 4, microbatchRows: 4 } } as Parameters<
  typeof predictRunOf
>[2];
const GENERATION = {
  members: [A, B],
  runs: [
    { first: 0, end: 3 },
    { first: 3, end: 4 },
  ],
};

describe('prediction of a generation', () => {
  test('the slowest rank decides the time, the largest process the memory', () => {
    const ready = new Map([
      [A, { predicted: { microbatchMs: 10, updateMs: 5, workerBytes: 100 } }],
      [B, { predicted: { microbatchMs: 40, updateMs: 1, workerBytes: 300 } }],
    ]);
    // Two microbatches a lane: a has 3 · 2 · 10 + 5, b has 1 · 2 · 40 + 1.
    assert.deepEqual(predictRunOf(GENERATION, ready, TRAINING), { stepMs: 81, workerBytes: 300 });
  });

  test('one worker that does not say is enough to say nothing', () => {
    const ready = new Map([
      [A, { predicted: { microbatchMs: 10, updateMs: 5, workerBytes: 100 } }],
      [B, {}],
    ]);
    assert.equal(predictRunOf(GENERATION, ready, TRAINING), undefined);
  });
});
