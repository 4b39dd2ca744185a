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
 * Matrices and vectors only: a T5 has no others.
 */
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { assertInvariant } from '../../shared/errors.ts';
import { fusedAdafactor, fusesBlocks } from './fused-kernels.ts';
import { meanOfAll, meanOverAxis, meanSquare } from './mean-square.ts';
import { factoredAxes } from './optimizer-slots.ts';
import type { OptimizerRule, OptimizerUpdate, Updated } from './optimizer-rule.ts';

const EPSILON_1 = 1e-30;
const EPSILON_2 = 1e-3;
const CLIP_THRESHOLD = 1;
const DECAY_EXPONENT = -0.8;

/** The numbers of one update as tensors: a recorded graph gets new ones in each step. */
export interface UpdateScalars {
  readonly learningRate: Scalar;
  /** beta2 */
  readonly decay: Scalar;
  /** 1 − beta2, rounded by itself */
  readonly newShare: Scalar;
  /** Scales the summed gradient to that of the mean loss: 1 / target tokens of the step. */
  readonly gradientScale: Scalar;
}

export const adafactorRule: OptimizerRule<keyof UpdateScalars> = {
  names: ['learningRate', 'decay', 'newShare', 'gradientScale'],
  numbers: updateNumbers,
  update: updateParameter,
};

/** The numbers of one update. */
function updateNumbers(update: OptimizerUpdate): Record<keyof UpdateScalars, number> {
  const newShare = (update.step + 1) ** DECAY_EXPONENT;
  const { learningRate, gradientScale } = update;
  return { learningRate, decay: 1 - newShare, newShare, gradientScale };
}

/** The same as tensors; the caller disposes them. */
export function updateScalars(update: OptimizerUpdate): UpdateScalars {
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
  const { rank, shape } = parameter;
  assertInvariant(rank === 1 || rank === 2, `Adafactor of a tensor of rank ${rank}`);
  if (fusesBlocks()) {
    const { learningRate, decay, newShare, gradientScale } = scalars;
    const numbers = [learningRate, decay, newShare, gradientScale];
    const [updated, ...newSlots] = fusedAdafactor(gradientSum, parameter, slots, numbers);
    return { parameter: updated!, slots: newSlots };
  }
  const axes = factoredAxes(shape);
  if (axes === undefined) return updateWhole(parameter, gradientSum, slots, scalars);
  return updateFactored(parameter as Tensor2D, gradientSum as Tensor2D, slots, scalars, axes);
}

function updateWhole(
  parameter: Tensor,
  gradientSum: Tensor,
  slots: readonly Tensor[],
  scalars: UpdateScalars,
): Updated {
  const gradient = tf.mul(gradientSum, scalars.gradientScale);
  const v = movingAverage(slots[0]!, tf.add(tf.square(gradient), EPSILON_1), scalars);
  const direction = tf.mul(gradient, tf.rsqrt(v));
  const factor = stepSize(parameter, meanSquare(direction), scalars);
  return { parameter: tf.sub(parameter, tf.mul(direction, factor)), slots: [v] };
}

/**
 * The same rule with few passes over the matrix. G = gradient of the sum, s = its scale, a = 1/sqrt(vr / mean(vr)) along the shorter side,
 * b = 1/sqrt(vc) along the longer; then g² has the means s²·mean(G²) + 1e-30, u = s·G·a·b, and mean(u²) = s²·mean(G²·a²·b²), which is a product
 * of G² with a² and a mean over the longer side.
 */
function updateFactored(
  parameter: Tensor2D,
  gradientSum: Tensor2D,
  slots: readonly Tensor[],
  scalars: UpdateScalars,
  { longer, shorter }: { readonly longer: 0 | 1; readonly shorter: 0 | 1 },
): Updated {
  const scaleSquare = tf.square(scalars.gradientScale);
  const square = tf.square(gradientSum);
  const mean = (axis: 0 | 1) => tf.add(tf.mul(meanOverAxis(square, axis), scaleSquare), EPSILON_1);
  const vr = movingAverage(slots[0]!, mean(longer), scalars);
  const vc = movingAverage(slots[1]!, mean(shorter), scalars);

  const aSquare = tf.div<Tensor1D>(meanOfAll(vr), vr);
  const bSquare = tf.div<Tensor1D>(1, vc);
  const numShorter = parameter.shape[shorter];
  const weighted =
    shorter === 1
      ? tf.matMul(square, tf.reshape(aSquare, [numShorter, 1]))
      : tf.matMul(tf.reshape(aSquare, [1, numShorter]), square);
  const meanSquareOfU = meanOfAll(tf.mul(tf.mul(tf.reshape(weighted, bSquare.shape), bSquare), scaleSquare));
  const factor = stepSize(parameter, tf.div(meanSquareOfU, numShorter), scalars);

  const a = tf.expandDims(tf.sqrt(aSquare), longer);
  const b = tf.expandDims(tf.mul(tf.rsqrt(vc), tf.mul(factor, scalars.gradientScale)), shorter);
  return { parameter: tf.sub(parameter, tf.mul(tf.mul(gradientSum, a), b)), slots: [vr, vc] };
}

function movingAverage<T extends Tensor>(old: Tensor, value: T, scalars: UpdateScalars): T {
  return tf.add<T>(tf.mul(old, scalars.decay), tf.mul(value, scalars.newShare));
}

/** Factor of the update direction u: learningRate · max(RMS(p), 1e-3) / max(1, RMS(u)). */
function stepSize(parameter: Tensor, meanSquareOfU: Tensor, scalars: UpdateScalars): Tensor {
  const clip = tf.maximum(tf.div(tf.sqrt(meanSquareOfU), CLIP_THRESHOLD), 1);
  const size = tf.maximum(tf.sqrt(meanSquare(parameter)), EPSILON_2);
  return tf.div(tf.mul(scalars.learningRate, size), clip);
}
