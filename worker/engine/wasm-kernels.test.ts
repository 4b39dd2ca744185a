import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import { enterBackend, openBackend } from './tfjs-backend.ts';
import { guardAllocator } from './wasm-internals.ts';

await openBackend('cpu');
await openBackend('wasm');

/** Runs `compute` on both backends and compares; values are small integers, so sums are exact in any order. */
async function assertSameOnBoth(compute: () => tf.Tensor): Promise<void> {
  const results: { shape: number[]; values: number[] }[] = [];
  for (const backend of ['cpu', 'wasm'] as const) {
    await enterBackend(backend);
    const before = tf.memory().numTensors;
    const result = tf.tidy(compute);
    results.push({ shape: result.shape, values: Array.from(result.dataSync()) });
    result.dispose();
    assert.equal(tf.memory().numTensors, before);
  }
  assert.deepEqual(results[1], results[0]);
}

function integers(shape: readonly number[], seed = 1): tf.Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(
    Float32Array.from({ length: size }, (_, i) => ((i * 7919 + seed * 104729) % 19) - 9),
    [...shape],
  );
}

const size = fc.integer({ min: 1, max: 9 });

describe('kernels put into the wasm backend', () => {
  test('matMul: any batch, any transposes, broadcast batches, as on cpu', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 2 }),
        fc.tuple(size, size, size),
        fc.tuple(fc.boolean(), fc.boolean(), fc.boolean()),
        async (batch, [m, k, n], [transposeA, transposeB, isSharedB]) => {
          const a = [...batch, ...(transposeA ? [k, m] : [m, k])];
          const b = [...batch.map((count) => (isSharedB ? 1 : count)), ...(transposeB ? [n, k] : [k, n])];
          await assertSameOnBoth(() => tf.matMul(integers(a), integers(b, 2), transposeA, transposeB));
        },
      ),
      { numRuns: 120 },
    );
  });

  test('sum over any one axis, with or without kept dimension, as on cpu', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(size, { minLength: 1, maxLength: 4 }),
        fc.nat(3),
        fc.boolean(),
        async (shape, axis, keepDims) =>
          assertSameOnBoth(() => tf.sum(integers(shape), Math.min(axis, shape.length - 1), keepDims)),
      ),
      { numRuns: 60 },
    );
  });

  test('sum over an axis keeps small terms beside large ones', async () => {
    await enterBackend('wasm');
    const rows = tf.tensor2d([[2 ** 24], [1], [1], [-(2 ** 24)]]);
    assert.deepEqual([...tf.sum(rows, 0).dataSync()], [2]);
  });

  test('gather of rows, and of other forms, as on cpu', async () => {
    const indices = () => tf.tensor1d([4, 0, 4, 2], 'int32');
    await assertSameOnBoth(() => tf.gather(integers([5, 7]), indices()));
    await assertSameOnBoth(() => tf.gather(integers([5, 2, 3]), indices()));
    await assertSameOnBoth(() => tf.gather(integers([3, 5]), indices(), 1));
    await assertSameOnBoth(() => tf.gather(integers([5, 2]), tf.reshape(indices(), [2, 2])));
  });

  test('gather refuses an index outside the table instead of reading other memory', async () => {
    await enterBackend('wasm');
    const table = integers([5, 2]);
    for (const index of [5, -1])
      assert.throws(() => tf.gather(table, tf.tensor1d([index], 'int32')), { code: 'INTERNAL' });
  });

  test('unsortedSegmentSum as on cpu; negative ids are left out, ids beyond the last segment refused', async () => {
    const ids = (values: number[]) => tf.tensor1d(values, 'int32');
    await assertSameOnBoth(() => tf.unsortedSegmentSum(integers([4, 3]), ids([2, 0, 2, 5]), 6));
    await enterBackend('wasm');
    const left = tf.unsortedSegmentSum(tf.tensor2d([1, 2, 4], [3, 1]), ids([0, -1, 0]), 2);
    assert.deepEqual([...left.dataSync()], [5, 0]);
    assert.throws(() => tf.unsortedSegmentSum(integers([1, 3]), ids([2]), 2), { code: 'INTERNAL' });
  });

  test('oneHot in float32 and int32, with indices outside the depth, as on cpu', async () => {
    const indices = () => tf.tensor1d([0, 3, -1, 4, 2], 'int32');
    await assertSameOnBoth(() => tf.oneHot(indices(), 4, 1, 0, 'float32'));
    await assertSameOnBoth(() => tf.oneHot(indices(), 4, 5, -2, 'float32'));
    await assertSameOnBoth(() => tf.oneHot(tf.tensor1d([0, 3], 'int32'), 4));
  });

  test('an allocation beyond the memory fails and frees its block, and signed addresses are read as unsigned', () => {
    const freed: number[] = [];
    const answering = (address: number) =>
      guardAllocator(
        () => address,
        (given) => void freed.push(given),
      );
    const isOutOfMemory = { code: 'ENGINE_OUT_OF_MEMORY', message: /no room for 4096 B/ };
    assert.equal(answering(65_536)(4096), 65_536);
    assert.equal(answering(-(2 ** 31))(4096), 2 ** 31);
    assert.throws(() => answering(0)(4096), isOutOfMemory);
    assert.deepEqual(freed, []);
    assert.throws(() => answering(-(2 ** 27))(4096), isOutOfMemory);
    assert.deepEqual(freed, [2 ** 32 - 2 ** 27]);
  });

  test('the backend allocates through the guard', async () => {
    await enterBackend('wasm');
    const tooLarge = { dataId: {}, shape: [2 ** 30], dtype: 'float32' } as const;
    assert.throws(() => tf.backend().move(tooLarge.dataId, null as never, [...tooLarge.shape], tooLarge.dtype, 1), {
      code: 'ENGINE_OUT_OF_MEMORY',
    });
  });

  test('a clone shares memory and outlives its original', async () => {
    await enterBackend('wasm');
    const original = integers([1000]);
    const before = tf.memory().numDataBuffers;
    const clone = tf.clone(original);
    assert.equal(tf.memory().numDataBuffers, before);
    original.dispose();
    assert.deepEqual(clone.dataSync(), integers([1000]).dataSync());
  });
});
