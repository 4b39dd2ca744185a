import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Arena, planArena } from '../arena/arena.ts';
import { planBuckets, type BucketPlan, type GradientPrecision } from '../arena/bucket-plan.ts';
import { makeLaneGradient, sumNaively } from '../collective/lane-gradients.fixture.ts';
import { assignLanes } from '../../shared/assign-lanes.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import { LaneGradient, LaneLoss } from './lane-gradient.ts';
import { createBatchArrays, type BatchArrays } from '../../mixture/feed/batch.ts';

type Gradient = Float32Array<ArrayBuffer>;

/** Gives a microbatch's gradient as an engine does: last parameter first, which is the plan's order. */
function addMicrobatch(target: LaneGradient, plan: BucketPlan, microbatch: number, gradient: Gradient): void {
  for (const [position, { offsetBytes, numElements }] of plan.parameters.entries()) {
    const parameter = plan.parameters.length - 1 - position;
    target.add(microbatch, parameter, gradient.slice(offsetBytes / 4, offsetBytes / 4 + numElements));
  }
}

const bytesOf = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);

const shapes = fc
  .record({
    levels: fc.nat(4),
    world: fc.nat(),
    numMicrobatches: fc.integer({ min: 1, max: 3 }),
    seed: fc.nat(),
    precision: fc.constantFrom<GradientPrecision>('float32', 'bfloat16'),
  })
  .map(({ levels, world, ...rest }) => ({ numLanes: 2 ** levels, worldSize: 1 + (world % 2 ** levels), ...rest }));
const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 6 });

describe('lane gradient', () => {
  test('any lanes, world size, microbatches, precision and buckets: each bucket is announced once, in order, with its tree sums done', () => {
    fc.assert(
      fc.property(shapes, sizes, fc.integer({ min: 64, max: 400 }), (shape, elements, bucketBytes) => {
        const { numLanes, worldSize, numMicrobatches, seed, precision } = shape;
        const plan = planBuckets(
          elements.map((numElements, i) => ({ name: `p${i}`, numElements })),
          bucketBytes,
          precision,
        );
        const laneTree = planLaneTree(numLanes, assignLanes(numLanes, worldSize).runs);
        const microbatches = Array.from({ length: numLanes }, (_, lane) =>
          Array.from({ length: numMicrobatches }, (_, microbatch) => makeLaneGradient(plan, seed, microbatch, lane)),
        );
        const laneSums = microbatches.map((gradients) =>
          gradients.reduce((sum, gradient) => sum.map((x, i) => x + gradient[i]!)),
        );
        for (const [rank, { steps, cover }] of laneTree.folds.entries()) {
          const arena = new Arena(planArena({ plan, laneTree, rank, frameBytes: 64, window: 1 }));
          const expected = cover.map(({ level, index }) =>
            sumNaively(laneSums.slice(index * 2 ** level, (index + 1) * 2 ** level), precision),
          );
          const announced: number[] = [];
          for (const [index, fold] of steps.entries()) {
            const isLast = index === steps.length - 1;
            announced.length = 0;
            const onBucket = (bucket: number): void => {
              announced.push(bucket);
              const { startBytes, endBytes } = plan.buckets[bucket]!;
              for (const [node, sum] of expected.entries())
                if (isLast)
                  assert.deepEqual(
                    arena.bytes(arena.slotAddress(node, startBytes), endBytes - startBytes),
                    bytesOf(sum.subarray(startBytes / 4, endBytes / 4)),
                    `rank ${rank} bucket ${bucket} node ${node}`,
                  );
            };
            const gradient = new LaneGradient({ arena, plan, fold, numMicrobatches, onBucket });
            for (const [microbatch, values] of microbatches[fold.lane]!.entries()) {
              assert.deepEqual(announced, [], 'a bucket was announced before the last microbatch');
              addMicrobatch(gradient, plan, microbatch, values);
            }
            assert.deepEqual(
              announced,
              plan.buckets.map((bucket) => bucket.index),
            );
          }
        }
      }),
      { numRuns: 100 },
    );
  });

  test('a gradient out of its order or of another size is refused', () => {
    const plan = planBuckets(
      [
        { name: 'last', numElements: 3 },
        { name: 'first', numElements: 2 },
      ],
      64,
    );
    const laneTree = planLaneTree(1, [{ first: 0, end: 1 }]);
    const arena = new Arena(planArena({ plan, laneTree, rank: 0, frameBytes: 64, window: 1 }));
    const make = () =>
      new LaneGradient({
        arena,
        plan,
        fold: laneTree.folds[0]!.steps[0]!,
        numMicrobatches: 1,
        onBucket: () => undefined,
      });
    assert.throws(() => make().add(0, 0, new Float32Array(2)), { code: 'INTERNAL', message: /1 comes next, got 0/u });
    const skipping = make();
    skipping.add(0, 1, new Float32Array(3));
    assert.throws(() => skipping.add(0, 1, new Float32Array(3)), { message: /0 comes next, got 1/u });
    assert.throws(() => make().add(0, 1, new Float32Array(2)), { message: /last has 3 elements, got 2/u });
  });
});

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
