/**
 * Measures the current tfjs backend: matrix products, element-wise work, calls of operations. Takes about 0.25 s. Assumes that an engine was
 * created, so that its backend is the current one, and that this process does nothing else.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';
import type { ModelConfig } from '../../shared/model-config.ts';
import type { BatchShape } from '../model/step-flops.ts';
import { enterBackend, type TfjsBackend } from './tfjs-backend.ts';

export interface KernelRates {
  /** Of matrix products in the model's shapes, 2·m·k·n operations each. */
  readonly flopsPerSecond: number;
  /** Of additions of two float32 tensors too large for a cache: 12 B of memory traffic each. */
  readonly elementsPerSecond: number;
  /** Of one operation on a scalar: what calling it costs, s. */
  readonly operationSeconds: number;
}

/** Samples of each kernel; the second best counts: other load makes a sample slower, never faster. */
const SAMPLES = 3;
/** A sample is repeated calls for at least this long, s. */
const LEAST_SECONDS = 0.006;
/** Of a product: the first, small one decides how large the measured one can be. */
const FIRST_FLOPS = 2e7;
const MOST_FLOPS = 4e9;
const PRODUCT_SECONDS = 0.02;
const ELEMENTS = 2 ** 22;

/** Makes the backend of an opened engine the current one. @param engineName as in its description */
export function enterBackendOf(engineName: string): Promise<void> {
  const backends: Readonly<Record<string, TfjsBackend>> = { native: 'tensorflow', wasm: 'wasm', cpu: 'cpu' };
  return enterBackend(backends[engineName] ?? 'cpu');
}

/**
 * The product is that of the feed-forward layer, [positions, dModel] by [dModel, dFf]; positions are at most those of a microbatch, fewer
 * where the machine is slow.
 */
export function timeKernels({ dModel, dFf }: ModelConfig, shape: BatchShape): KernelRates {
  return {
    flopsPerSecond: timeProduct(shape.numRows * shape.inputsLength, dModel, dFf),
    elementsPerSecond: ELEMENTS / timeAddition(ELEMENTS),
    operationSeconds: timeAddition(1),
  };
}

/** A product of square matrices, the figure by which machines are compared, FLOP/s. @param size of a side */
export function timeSquareProduct(size: number): number {
  return timeProduct(size, size, size);
}

/** Of float32 values into the backend's memory and back, B/s; counts both ways. */
export function timeCopy(): number {
  const values = new Float32Array(ELEMENTS).fill(1);
  const seconds = Array.from({ length: SAMPLES }, () => {
    const start = performance.now();
    const tensor = tf.tensor1d(values);
    tensor.dataSync();
    tensor.dispose();
    return (performance.now() - start) / 1000;
  }).sort((a, b) => a - b);
  return (2 * values.byteLength) / seconds[1]!;
}

/** FLOP/s of [m, k] by [k, n], with fewer rows than m where that would take long. */
function timeProduct(m: number, k: number, n: number): number {
  const rowsFor = (flops: number) => Math.max(1, Math.min(m, Math.round(flops / (2 * k * n))));
  const measure = (numRows: number): number => {
    const x = tf.ones<tf.Rank.R2>([numRows, k]);
    const weights = tf.ones<tf.Rank.R2>([n, k]);
    try {
      return (2 * numRows * k * n) / secondsOf(() => tf.matMul<Tensor2D>(x, weights, false, true));
    } finally {
      tf.dispose([x, weights]);
    }
  };
  const first = rowsFor(FIRST_FLOPS);
  const rate = measure(first);
  const numRows = rowsFor(Math.min(MOST_FLOPS, rate * PRODUCT_SECONDS));
  return numRows > first ? measure(numRows) : rate;
}

/** Seconds of one addition. */
function timeAddition(numElements: number): number {
  const x = tf.ones<tf.Rank.R2>([1, numElements]);
  try {
    return secondsOf(() => tf.add<Tensor2D>(x, x));
  } finally {
    x.dispose();
  }
}

function secondsOf(run: () => Tensor2D): number {
  timeCalls(run, 1); // kernels are made ready, and memory is taken, at the first call
  const calls = Math.ceil(LEAST_SECONDS / timeCalls(run, 1));
  const seconds = Array.from({ length: SAMPLES }, () => timeCalls(run, calls)).sort((a, b) => a - b);
  return seconds[1]!;
}

/** Mean of some calls. One value is read back at the end: until then a GPU may not have finished. */
function timeCalls(run: () => Tensor2D, calls: number): number {
  const start = performance.now();
  for (let call = 1; call <= calls; call++)
    tf.tidy(() => {
      const result = run();
      if (call === calls) tf.slice(result, [0, 0], [1, 1]).dataSync();
    });
  return Math.max(1e-7, (performance.now() - start) / 1000 / calls);
}
