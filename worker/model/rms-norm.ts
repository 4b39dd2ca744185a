/**
 * T5's layer norm: x / sqrt(mean(x²) + epsilon) · weight; no mean removed, no bias (Zhang & Sennrich 2019). M = positions, D = model width.
 *
 * With r = 1/sqrt(mean(x²) + epsilon), n = x·r and g = dy·weight:  dweight = Σ_M dy·n,  dx = r·(g − n·mean(g·n)).
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { withGradient } from './custom-gradient.ts';
import { fusedRmsNorm, fusedRmsNormGradient, fusesBlocks } from './fused-kernels.ts';

export function rmsNorm(x_MD: Tensor2D, weight_D: Tensor1D, epsilon: number): Tensor2D {
  if (fusesBlocks())
    return withGradient([x_MD, weight_D], () => ({
      value: fusedRmsNorm(x_MD, weight_D, epsilon),
      saved: [x_MD, weight_D],
      gradient: (dy_MD, [x, weight]) => fusedRmsNormGradient(dy_MD, x as Tensor2D, weight as Tensor1D, epsilon),
    }));
  return withGradient([x_MD, weight_D], () => {
    const scale_M1 = tf.rsqrt(tf.add(tf.mean(tf.square(x_MD), -1, true), epsilon));
    const normal_MD = tf.mul(x_MD, scale_M1);
    return {
      value: tf.mul<Tensor2D>(normal_MD, weight_D),
      saved: [normal_MD, scale_M1, weight_D],
      gradient: (dy_MD, saved) => {
        const [normal, scale, weight] = saved as [Tensor2D, Tensor2D, Tensor1D];
        const dNormal_MD = tf.mul(dy_MD, weight);
        const along_M1 = tf.mean(tf.mul(dNormal_MD, normal), -1, true);
        const dx_MD = tf.mul(tf.sub(dNormal_MD, tf.mul(normal, along_M1)), scale);
        return [dx_MD, tf.sum(tf.mul(dy_MD, normal), 0)];
      },
    };
  });
}
