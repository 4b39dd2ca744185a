/** Means over many elements, in two stages, so that float32 sums stay accurate. */
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { halfSumOfSquares, hasFusedKernels } from './fused-kernels.ts';
import { numElements } from './parameters.ts';

/** @returns a scalar */
export function meanSquare(x: Tensor): Tensor {
  return hasFusedKernels() ? tf.mul(halfSumOfSquares(x), 2 / x.size) : meanOfAll(tf.square(x));
}

/** @returns a scalar */
export function meanOfAll(x: Tensor): Tensor {
  const size = numElements(x.shape);
  const outer = divisorNearRoot(size);
  return tf.mean(tf.mean(tf.reshape(x, [outer, size / outer]), 1));
}

export function meanOverAxis(x_RC: Tensor2D, axis: 0 | 1): Tensor1D {
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
