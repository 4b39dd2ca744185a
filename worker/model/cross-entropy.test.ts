import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import { asFloat32, asInt32, readSafetensors } from '../../shared/safetensors.ts';
import { enterBackend, openBackend } from '../engine/tfjs-backend.ts';
import { crossEntropy, type Labels } from './cross-entropy.ts';

const { tensors: reference } = await readSafetensors('golden/t5-tiny-v1_1/case.safetensors');
const { tensors: withZLoss } = await readSafetensors('golden/t5-tiny-v1_1/zloss.safetensors');

function labelsOf(ids: Int32Array): Labels {
  return {
    ids_M: tf.tensor1d(
      ids.map((id) => Math.max(id, -1)),
      'int32',
    ),
    hasLoss_M: tf.tensor1d(Float32Array.from(ids, (id) => (id >= 0 ? 1 : 0))),
  };
}

describe('cross-entropy with z-loss', () => {
  for (const backend of ['cpu', 'wasm'] as const) {
    test(`terms and gradient on the logits are the golden ones, on ${backend}`, async () => {
      await openBackend(backend);
      await enterBackend(backend);
      const ids = asInt32(reference.get('labels')!);
      const numTargets = ids.filter((id) => id >= 0).length;
      const logits = asFloat32(reference.get('logits')!);
      const logits_MV = tf.tensor2d(logits, [ids.length, 512]);
      const run = tf.valueAndGrad((x) => tf.div(crossEntropy(x as tf.Tensor2D, labelsOf(ids), 1e-4), numTargets));
      const { value, grad } = run(logits_MV);

      const expected = asFloat32(withZLoss.get('grad_logits')!);
      for (const [i, found] of grad.dataSync().entries())
        assert.ok(Math.abs(found - expected[i]!) <= 1e-7, `gradient ${i}: ${found}, expected ${expected[i]!}`);

      const terms = value.dataSync();
      const logZ = asFloat32(withZLoss.get('log_z')!);
      let ceSum = 0;
      for (const [i, id] of ids.entries()) {
        const z = id >= 0 ? (1e-4 * logZ[i]! ** 2) / numTargets : 0;
        assert.ok(Math.abs(terms[2 * i + 1]! - z) <= 1e-9, `z-loss ${i}`);
        if (id < 0) assert.equal(terms[2 * i], 0);
        ceSum += terms[2 * i]!;
      }
      assert.ok(Math.abs(ceSum - asFloat32(withZLoss.get('ce_loss')!)[0]!) <= 3e-6);
    });

    test(`the two terms have separate gradients, and very large logits stay finite, on ${backend}`, async () => {
      await openBackend(backend);
      await enterBackend(backend);
      const logits_MV = tf.tensor2d([1000, -1000, 0, 2, 1, -30], [2, 3]);
      const labels = labelsOf(Int32Array.of(1, 0));
      const run = tf.valueAndGrad((x) => crossEntropy(x as tf.Tensor2D, labels, 0.5));
      const onlyCe = run(logits_MV, tf.tensor2d([1, 0, 1, 0], [2, 2]));
      const onlyZ = run(logits_MV, tf.tensor2d([0, 1, 0, 1], [2, 2]));
      const [p, logZ] = [1 / (1 + Math.exp(-1)), 2 + Math.log(1 + Math.exp(-1))];
      const close = (found: ArrayLike<number>, expected: number[]) =>
        expected.forEach((value, i) =>
          assert.ok(Math.abs(found[i]! - value) <= 1e-6 * Math.max(1, Math.abs(value)), `${i}: ${found[i]!}, ${value}`),
        );
      close(onlyCe.value.dataSync(), [2000, 0.5 * 1000 ** 2, logZ - 2, 0.5 * logZ ** 2]);
      close(onlyCe.grad.dataSync(), [1, -1, 0, p - 1, 1 - p, 0]);
      close(onlyZ.grad.dataSync(), [1000, 0, 0, logZ * p, logZ * (1 - p), 0]);
    });
  }
});
