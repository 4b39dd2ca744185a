import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import * as tf from '@tensorflow/tfjs';
import { modelConfigSchema } from '../../shared/model-config.ts';
import { enterBackend, openBackend } from './tfjs-backend.ts';
import { timeCopy, timeKernels, timeSquareProduct } from './time-kernels.ts';

const CONFIG = modelConfigSchema.parse({ dModel: 128, dFf: 256 });
const SHAPE = { numRows: 4, inputsLength: 64, targetsLength: 16 };

describe('timed kernels', () => {
  test('leave no tensor behind, and tell WebAssembly from plain JavaScript', async () => {
    const rates = [];
    for (const backend of ['wasm', 'cpu'] as const) {
      await openBackend(backend);
      await enterBackend(backend);
      const before = tf.memory().numTensors;
      rates.push(timeKernels(CONFIG, SHAPE));
      assert.equal(tf.memory().numTensors, before);
    }
    const [wasm, cpu] = rates;
    assert.ok(wasm!.flopsPerSecond > 2 * cpu!.flopsPerSecond, `${wasm!.flopsPerSecond} and ${cpu!.flopsPerSecond}`);
    for (const { elementsPerSecond, operationSeconds } of rates) {
      assert.ok(elementsPerSecond > 1e6 && elementsPerSecond < 1e11, String(elementsPerSecond));
      assert.ok(operationSeconds > 1e-8 && operationSeconds < 0.1, String(operationSeconds));
    }
  });

  test('a square product and a copy are timed', async () => {
    await openBackend('wasm');
    await enterBackend('wasm');
    const rate = timeSquareProduct(128);
    assert.ok(rate > 1e8 && rate < 1e13, String(rate));
    assert.ok(timeCopy() > 1e7);
  });
});
