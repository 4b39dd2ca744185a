import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { createBatchArrays, type BatchArrays } from '../../mixture/feed/batch.ts';
import { LaneLoss } from './lane-loss.ts';

function batchOf(taskOfTarget: number[]): BatchArrays {
  const batch = createBatchArrays(1, 1, taskOfTarget.length);
  batch.taskOfTarget.set(taskOfTarget);
  return batch;
}

const output = (crossEntropy: number[], zLoss = crossEntropy.map(() => 0)) => ({
  crossEntropy: Float32Array.from(crossEntropy),
  zLoss: Float32Array.from(zLoss),
});

describe('lane loss', () => {
  test('adds up per task over microbatches; padding counts for nothing', () => {
    const loss = new LaneLoss(5);
    loss.add(output([1, 2, 4, 99], [0.5, 0.25, 0.125, 99]), batchOf([7, 3, 7, -1]), 10);
    loss.add(output([8, 99, 16], [1, 99, 2]), batchOf([3, -1, 0]), 11);
    assert.deepEqual(loss.sums(), {
      lane: 5,
      tasks: [
        { task: 0, loss: 16, targetTokens: 1 },
        { task: 3, loss: 10, targetTokens: 2 },
        { task: 7, loss: 5, targetTokens: 2 },
      ],
      zLoss: 3.875,
      inputTokens: 21,
    });
  });

  test('adds in float64 and in the order of the positions', () => {
    const loss = new LaneLoss(0);
    // 2^24 + 1 needs more than float32; 2^60 − 2^60 + 1 is 1 only from left to right.
    loss.add(output([2 ** 24, 1]), batchOf([0, 0]), 0);
    loss.add(output([2 ** 60, -(2 ** 60), 1]), batchOf([1, 1, 1]), 0);
    loss.add(output([1, 2 ** 60, -(2 ** 60)]), batchOf([2, 2, 2]), 0);
    assert.deepEqual(
      loss.sums().tasks.map((task) => task.loss),
      [2 ** 24 + 1, 1, 0],
    );
  });

  test('a loss that is not finite stays visible', () => {
    const loss = new LaneLoss(0);
    loss.add(output([Number.NaN, 1], [0, Infinity]), batchOf([0, 1]), 0);
    const { tasks, zLoss } = loss.sums();
    assert.deepEqual(
      tasks.map((task) => task.loss),
      [Number.NaN, 1],
    );
    assert.equal(zLoss, Infinity);
  });
});
