/**
 * A process that tests an engine: loads both addons, multiplies two matrices, compares with plain JavaScript, prints one line of JSON. It is a
 * process of its own, since a damaged library can crash it. Argument: JSON of `addonPath`, `sessionAddonPath` and `device`.
 */
import * as tf from '@tensorflow/tfjs';
import { z } from 'zod';
import { toTrainerError } from '../../../../shared/errors.ts';
import { standardError, standardOutput } from '../../../../shared/standard-streams.ts';
import { loadSessionBinding } from '../session/session-binding.ts';
import { loadAddon, NATIVE_BACKEND } from './load-addon.ts';

const argumentSchema = z.strictObject({
  addonPath: z.string(),
  sessionAddonPath: z.string(),
  device: z.enum(['cpu', 'gpu']),
});

// A and B are [M, K] and [K, N]. No dimension is a multiple of a vector's width, so that remainders are tested too.
const M = 61;
const K = 67;
const N = 83;

try {
  const { addonPath, sessionAddonPath, device } = argumentSchema.parse(JSON.parse(process.argv[2] ?? ''));
  const addon = loadAddon({ addonPath, device, numThreads: 2, allowTf32: false, xla: false });
  loadSessionBinding(sessionAddonPath);
  await tf.setBackend(NATIVE_BACKEND);
  const a = fill(M * K, 12345);
  const b = fill(K * N, 54321);
  const product = tf.tidy(() => tf.matMul(tf.tensor2d(a, [M, K]), tf.tensor2d(b, [K, N])));
  const worstError = compare(product.dataSync<'float32'>(), a, b);
  product.dispose();
  const { version, isUsingGpu } = addon;
  await standardOutput.print(`${JSON.stringify({ version, isUsingGpu, worstError })}\n`);
} catch (thrown) {
  const { code, message } = toTrainerError(thrown);
  standardError.write(`${code}: ${message}\n`);
  process.exitCode = 1;
}

/** Numbers in [-1, 1) of a linear congruential generator. */
function fill(length: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

/** @returns the largest |difference| from a product in float64, over its largest |element|; NaN where one is not a number */
function compare(product: Float32Array, a: Float32Array, b: Float32Array): number {
  let worst = 0;
  let largest = 0;
  for (let row = 0; row < M; row++)
    for (let column = 0; column < N; column++) {
      let sum = 0;
      for (let k = 0; k < K; k++) sum += a[row * K + k]! * b[k * N + column]!;
      const difference = Math.abs(product[row * N + column]! - sum);
      if (Number.isNaN(difference)) return NaN;
      worst = Math.max(worst, difference);
      largest = Math.max(largest, Math.abs(sum));
    }
  return worst / largest;
}
