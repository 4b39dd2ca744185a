/**
 * Adafactor as T5 uses it: factored second moments, update clipping, steps relative to the parameter's size; no momentum, no weight decay.
 * Sources: Shazeer & Stern 2018; mesh_tensorflow/optimize.py; t5x/adafactor.py. g = gradient of the mean loss, t = step from 0.
 *
 *   beta2 = 1 − (t + 1)^−0.8,   g² stands for g·g + 1e-30
 *   factored (both sides of a matrix ≥ 128; d0 the longer side, d1 the other):
 *       vr ← beta2·vr + (1 − beta2)·mean over d0 of g²,   vc ← the same over d1,   u = g / sqrt(vr / mean(vr)) / sqrt(vc)
 *   else:  v ← beta2·v + (1 − beta2)·g²,   u = g / sqrt(v)
 *   u ← u / max(1, RMS(u)),   p ← p − learningRate · max(RMS(p), 1e-3) · u
 *
 * Means over many elements are taken in two stages, so that float32 sums stay accurate. Only matrices and vectors: a T5 has no others.
 */
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { assertInvariant } from '../../shared/errors.ts';
import { factoredAxes } from './optimizer-slots.ts';
import { numElements } from './parameters.ts';

const EPSILON_1 = 1e-30;
const EPSILON_2 = 1e-3;
const CLIP_THRESHOLD = 1;
const DECAY_EXPONENT = -0.8;

/** The numbers of one update, as tensors: a recorded graph feeds them anew in each step. */
export interface UpdateScalars {
  readonly learningRate: Scalar;
  /** beta2 */
  readonly decay: Scalar;
  /** 1 − beta2, rounded by itself */
  readonly newShare: Scalar;
  /** What turns the summed gradient into that of the mean loss: 1 / target tokens of the step. */
  readonly gradientScale: Scalar;
}

export interface Updated {
  readonly parameter: Tensor;
  /** In the order of slotSpecs. */
  readonly slots: readonly Tensor[];
}

/** The numbers of one update. @param update `step` from 0 */
export function updateNumbers(update: {
  step: number;
  learningRate: number;
  gradientScale: number;
}): Record<keyof UpdateScalars, number> {
  const newShare = (update.step + 1) ** DECAY_EXPONENT;
  const { learningRate, gradientScale } = update;
  return { learningRate, decay: 1 - newShare, newShare, gradientScale };
}

/** The same as tensors; the caller disposes them. */
export function updateScalars(update: Parameters<typeof updateNumbers>[0]): UpdateScalars {
  const { learningRate, decay, newShare, gradientScale } = updateNumbers(update);
  return {
    learningRate: tf.scalar(learningRate, 'float32'),
    decay: tf.scalar(decay, 'float32'),
    newShare: tf.scalar(newShare, 'float32'),
    gradientScale: tf.scalar(gradientScale, 'float32'),
  };
}

/** New parameter and state; the old tensors stay the caller's. */
export function updateParameter(
  parameter: Tensor,
  gradientSum: Tensor,
  slots: readonly Tensor[],
  scalars: UpdateScalars,
): Updated {
  assertInvariant(parameter.rank === 1 || parameter.rank === 2, `Adafactor of a tensor of rank ${parameter.rank}`);
  const gradient = tf.mul(gradientSum, scalars.gradientScale);
  const square = tf.add(tf.square(gradient), EPSILON_1);
  const average = (old: Tensor, value: Tensor) => tf.add(tf.mul(old, scalars.decay), tf.mul(value, scalars.newShare));

  const axes = factoredAxes(parameter.shape);
  let newSlots: Tensor[];
  let direction: Tensor;
  if (axes === undefined) {
    const v = average(slots[0]!, square);
    newSlots = [v];
    direction = tf.mul(gradient, tf.rsqrt(v));
  } else {
    const vr = average(slots[0]!, meanOverAxis(square as Tensor2D, axes.longer));
    const vc = average(slots[1]!, meanOverAxis(square as Tensor2D, axes.shorter));
    newSlots = [vr, vc];
    const alongShorter = tf.expandDims(tf.rsqrt(tf.div(vr, meanOfAll(vr))), axes.longer);
    direction = tf.mul(tf.mul(gradient, alongShorter), tf.expandDims(tf.rsqrt(vc), axes.shorter));
  }
  const clip = tf.maximum(tf.div(rootMeanSquare(direction), CLIP_THRESHOLD), 1);
  const size = tf.maximum(rootMeanSquare(parameter), EPSILON_2);
  const factor = tf.div(tf.mul(scalars.learningRate, size), clip);
  return { parameter: tf.sub(parameter, tf.mul(direction, factor)), slots: newSlots };
}

function rootMeanSquare(x: Tensor): Tensor {
  return tf.sqrt(meanOfAll(tf.square(x)));
}

/** @returns a scalar */
function meanOfAll(x: Tensor): Tensor {
  const size = numElements(x.shape);
  const outer = divisorNearRoot(size);
  return tf.mean(tf.mean(tf.reshape(x, [outer, size / outer]), 1));
}

function meanOverAxis(x_RC: Tensor2D, axis: 0 | 1): Tensor1D {
  const [rows, columns] = x_RC.shape;
  if (axis === 1) {
    const outer = divisorNearRoot(columns);
    return tf.mean(tf.mean(tf.reshape(x_RC, [rows, outer, columns / outer]), 2), 1);
  }
  const outer = divisorNearRoot(rows);
  return tf.mean(tf.mean(tf.reshape(x_RC, [outer, rows / outer, columns]), 1), 0);
}

/** The largest divisor of `size` up to its square root. */
function divisorNearRoot(size: number): number {
  for (let divisor = Math.floor(Math.sqrt(size)); divisor > 1; divisor--) if (size % divisor === 0) return divisor;
  return 1;
}
