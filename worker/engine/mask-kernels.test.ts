import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import { philox4x32 } from '../../shared/random.ts';
import { countedDropout, drop, dropoutKeys, planMask, siteNumber } from '../model/dropout.ts';
import { multiplyRows } from './mask-kernels.ts';
import { enterBackend, openBackend } from './tfjs-backend.ts';

const site = { side: 'decoder', block: 2, part: 'self.output' } as const;
const FULL = { rate: 0.1, broadcastLength: false };
const SHARED = { rate: 0.25, broadcastLength: true };

/** The definition, a word at a time. */
function wordOf(keys: Int32Array, row: number, word: number): number {
  const mixed = new Uint32Array(4);
  const block = new Uint32Array(4);
  philox4x32([keys[2 * row]!, 0, keys[2 * row + 1]! + siteNumber(site), 0], [0x3ec8f720, 0x02461e29], mixed);
  philox4x32([word >>> 2, 0, mixed[2]!, mixed[3]!], mixed, block);
  return block[word & 3]! | 0;
}

/** Masks of `numRows` rows of the step, read off a tensor of ones. */
function masks(settings: typeof FULL, shape: readonly number[], firstRow = 0): Float32Array {
  const numRows = shape.length === 2 ? 4 : shape[0]!;
  const keys = dropoutKeys(7, { step: 3, firstRow, numRows });
  const [ones, keys_B2] = [tf.ones([...shape]), tf.tensor2d(keys, [numRows, 2], 'int32')];
  const product = countedDropout(settings, keys_B2)!.multiply(ones, site);
  assert.deepEqual(product.shape, shape);
  const values = product.dataSync<'float32'>().slice();
  tf.dispose([ones, keys_B2, product]);
  return values;
}

for (const backend of ['cpu', 'wasm'] as const)
  describe(`masks on ${backend}`, () => {
    const enter = async () => {
      await openBackend(backend);
      await enterBackend(backend);
    };

    test('each element is kept by its own word of Philox, and scaled', async () => {
      await enter();
      // 3 positions of 7: rows of 21 elements end inside a block of four words.
      const keys = dropoutKeys(7, { step: 3, firstRow: 0, numRows: 4 });
      const found = masks(FULL, [12, 7]);
      const scale = Math.fround(1 / 0.9);
      const expected = Float32Array.from(found, (_, i) =>
        wordOf(keys, Math.floor(i / 21), i % 21) >= Math.round(0.1 * 2 ** 32) - 2 ** 31 ? scale : 0,
      );
      assert.deepEqual(found, expected);
    });

    test('a mask that is shared along the length has one value for all positions, of its own for each head', async () => {
      await enter();
      const hidden = masks(SHARED, [12, 7]);
      for (let i = 0; i < hidden.length; i++)
        assert.equal(hidden[i], hidden[Math.floor(i / 21) * 21 + (i % 7)], `element ${i}`);
      const keys = dropoutKeys(7, { step: 3, firstRow: 0, numRows: 2 });
      const attentionSite = { ...site, part: 'self.attention_weights' } as const;
      const plan = planMask(SHARED, attentionSite, [2, 3, 5, 11], 2);
      const out = new Float32Array(2 * 3 * 5 * 11);
      multiplyRows(new Float32Array(out.length).fill(1), keys, plan, out);
      const at = (b: number, n: number, q: number, k: number) => out[((b * 3 + n) * 5 + q) * 11 + k];
      const heads = new Set<string>();
      for (const b of [0, 1])
        for (const n of [0, 1, 2]) {
          const row = (q: number) => Array.from({ length: 11 }, (_, k) => at(b, n, q, k)).join(' ');
          for (const q of [1, 2, 3, 4]) assert.equal(row(q), row(0));
          heads.add(row(0));
        }
      assert.ok(heads.size > 3, `${heads.size} of 6 heads and rows have masks of their own`);
    });

    test('a row has the same mask alone, in another microbatch and in another place of it', async () => {
      await enter();
      const four = masks(FULL, [4, 3, 5, 11]);
      const size = 3 * 5 * 11;
      for (const row of [0, 1, 2, 3])
        assert.deepEqual(masks(FULL, [1, 3, 5, 11], row), four.slice(row * size, (row + 1) * size));
      assert.deepEqual(masks(FULL, [2, 3, 5, 11], 1), four.slice(size, 3 * size));
    });

    test('the share of kept elements is 1 − p within four standard deviations', async () => {
      await enter();
      const found = masks(FULL, [400, 250]);
      const kept = found.reduce((sum, value) => sum + (value > 0 ? 1 : 0), 0);
      assert.ok(Math.abs(kept - 90_000) < 4 * Math.sqrt(100_000 * 0.09), `${kept} of 100000`);
    });

    test('the gradient is multiplied by the same mask, and a NaN stays one', async () => {
      await enter();
      const keys_B2 = tf.tensor2d(dropoutKeys(7, { step: 3, firstRow: 0, numRows: 4 }), [4, 2], 'int32');
      const dropout = countedDropout(FULL, keys_B2);
      const x = tf.randomNormal([12, 7], 0, 1, 'float32', 5);
      const gradient = tf.grad((taped) => tf.sum(drop(taped, dropout, site)))(x);
      assert.deepEqual(gradient.dataSync<'float32'>(), masks(FULL, [12, 7]));
      const bad = dropout!.multiply(tf.fill([12, 7], NaN), site);
      assert.ok(bad.dataSync<'float32'>().every(Number.isNaN));
      tf.dispose([keys_B2, x, gradient, bad]);
    });
  });
