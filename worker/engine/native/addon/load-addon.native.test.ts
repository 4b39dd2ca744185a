/** With the engine in $EXMIX_HOME (exmix engine install). One process has one addon: the tests of this file share it. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import { assertInvariant } from '../../../../shared/errors.ts';
import { exmixHome } from '../../../../shared/exmix-home.ts';
import { findInstalledEngine, type InstalledEngine } from '../../../../shared/installed-engine.ts';
import { loadAddon, NATIVE_BACKEND, type AddonOptions, type LoadedAddon } from './load-addon.ts';

let engine: InstalledEngine;
let options: AddonOptions;
let addon: LoadedAddon;
before(async () => {
  const found = await findInstalledEngine(exmixHome());
  assertInvariant(found !== undefined, `these tests need a native engine in ${exmixHome()}: exmix engine install`);
  engine = found;
  options = { addonPath: engine.addonPath, numThreads: 1, device: 'cpu', allowTf32: false, xla: false };
  addon = loadAddon(options);
});

test('the addon is the TensorFlow of the manifest, and no GPU is used where the device is cpu', () => {
  assert.equal(addon.version, engine.tensorflowVersion);
  assert.equal(addon.isUsingGpu, false);
  assert.equal(process.env['CUDA_VISIBLE_DEVICES'], '-1');
  assert.equal(process.env['TF_NUM_INTRAOP_THREADS'], '1');
});

test('it is a backend of tfjs that computes, and every tensor goes when it is disposed', async () => {
  await tf.setBackend(NATIVE_BACKEND);
  const before = addon.binding.getNumOfTensors();
  const product = tf.tidy(() => tf.matMul(tf.tensor2d([1, 2, 3, 4], [2, 2]), tf.tensor2d([5, 6, 7, 8], [2, 2])));
  assert.deepEqual([...product.dataSync<'float32'>()], [19, 22, 43, 50]);
  product.dispose();
  assert.equal(addon.binding.getNumOfTensors(), before);
});

test('top-k, which calls functions that newer Nodes removed, works', () => {
  const { values, indices } = tf.topk(tf.tensor1d([1, 5, 3]), 2);
  assert.deepEqual([...values.dataSync<'float32'>()], [5, 3]);
  assert.deepEqual([...indices.dataSync<'int32'>()], [1, 2]);
});

test('the same options again give the same addon, others are refused', () => {
  assert.equal(loadAddon({ ...options }), addon);
  assert.throws(() => loadAddon({ ...options, numThreads: 2 }), { code: 'INTERNAL', message: /with other options/u });
});
