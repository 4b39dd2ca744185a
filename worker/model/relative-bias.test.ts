import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import { enterBackend, openBackend } from '../engine/tfjs-backend.ts';
import { relativeBias, relativePositionBucket } from './relative-bias.ts';

interface GoldenBuckets {
  readonly rel_from: number;
  readonly rel_to: number;
  readonly tables: { num_buckets: number; max_distance: number; encoder: number[]; decoder: number[] }[];
}
const golden = JSON.parse(readFileSync('golden/relative-position-buckets.json', 'utf8')) as GoldenBuckets;

describe('relative position bias', () => {
  for (const side of ['encoder', 'decoder'] as const)
    test(`buckets of the ${side} are those of transformers at every distance`, () => {
      for (const table of golden.tables) {
        const scheme = {
          numBuckets: table.num_buckets,
          maxDistance: table.max_distance,
          isBidirectional: side === 'encoder',
        };
        const found = table[side].map((_, i) => relativePositionBucket(golden.rel_from + i, scheme));
        assert.deepEqual(found, table[side]);
        assert.equal(golden.rel_from + found.length - 1, golden.rel_to);
      }
    });

  for (const backend of ['cpu', 'wasm'] as const)
    for (const isBidirectional of [true, false])
      test(`spreads the table over all pairs and sums gradients back, ${backend}, bidirectional ${isBidirectional}`, async () => {
        await openBackend(backend);
        await enterBackend(backend);
        const [numHeads, length] = [3, 37];
        const scheme = { numBuckets: 32, maxDistance: 128, isBidirectional };
        const table = Float32Array.from({ length: 32 * numHeads }, (_, i) => Math.fround(Math.sin(i)));
        const upstream = Float32Array.from({ length: numHeads * length * length }, (_, i) => Math.fround(Math.cos(i)));

        const value = new Float32Array(upstream.length);
        const gradient = new Float64Array(table.length);
        for (let head = 0, i = 0; head < numHeads; head++)
          for (let query = 0; query < length; query++)
            for (let key = 0; key < length; key++, i++) {
              const entry = relativePositionBucket(key - query, scheme) * numHeads + head;
              value[i] = table[entry]!;
              gradient[entry]! += upstream[i]!;
            }

        const tableTensor = tf.tensor2d(table, [32, numHeads]);
        const run = tf.valueAndGrad((x) => relativeBias(x as tf.Tensor2D, length, scheme));
        const found = run(tableTensor, tf.tensor3d(upstream, [numHeads, length, length]));
        assert.deepEqual(found.value.dataSync(), value);
        for (const [i, sum] of found.grad.dataSync().entries())
          assert.ok(Math.abs(sum - gradient[i]!) < 1e-5, `entry ${i}: ${sum}, expected ${gradient[i]!}`);
      });
});
