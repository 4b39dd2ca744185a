/**
 * The position-wise feed-forward layers. M = positions, D = model width, F = feed-forward width; weights are [out, in].
 *
 * GELU is the tanh form (`gelu_new`): x/2·(1 + tanh(u/2)) with u = 2·sqrt(2/π)·(x + 0.044715 x³), which is x·σ(u):
 * the sigmoid is the same function and the faster kernel.  gelu′ = σ + x·σ·(1 − σ)·u′,  u′ = 2·sqrt(2/π)·(1 + 0.134145 x²).
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor2D } from '@tensorflow/tfjs';
import { withGradient } from './custom-gradient.ts';
import { fusedGeluTimes, fusedGeluTimesGradient, fusesBlocks } from './fused-kernels.ts';

const U_SCALE = 2 * Math.sqrt(2 / Math.PI);
const CUBIC = 0.044715;

/** T5 v1.1: wo(gelu(wi_0 x) · (wi_1 x)). @param drop of the product inside */
export function gatedGelu(
  x_MD: Tensor2D,
  wi0_FD: Tensor2D,
  wi1_FD: Tensor2D,
  wo_DF: Tensor2D,
  drop: (inner_MF: Tensor2D) => Tensor2D = (inner_MF) => inner_MF,
): Tensor2D {
  const gate_MF = tf.matMul<Tensor2D>(x_MD, wi0_FD, false, true);
  const linear_MF = tf.matMul<Tensor2D>(x_MD, wi1_FD, false, true);
  return tf.matMul(drop(geluTimes(gate_MF, linear_MF)), wo_DF, false, true);
}

/** T5 v1.0: wo(relu(wi x)). @param drop of the relu */
export function reluFeedForward(
  x_MD: Tensor2D,
  wi_FD: Tensor2D,
  wo_DF: Tensor2D,
  drop: (inner_MF: Tensor2D) => Tensor2D = (inner_MF) => inner_MF,
): Tensor2D {
  return tf.matMul(drop(tf.relu(tf.matMul<Tensor2D>(x_MD, wi_FD, false, true))), wo_DF, false, true);
}

/** gelu(gate) · linear, with its closed-form gradient. */
function geluTimes(gate_MF: Tensor2D, linear_MF: Tensor2D): Tensor2D {
  if (fusesBlocks())
    return withGradient([gate_MF, linear_MF], () => ({
      value: fusedGeluTimes(gate_MF, linear_MF),
      saved: [gate_MF, linear_MF],
      gradient: (dOut_MF, [gate, linear]) => fusedGeluTimesGradient(dOut_MF, gate as Tensor2D, linear as Tensor2D),
    }));
  return withGradient([gate_MF, linear_MF], () => {
    const square_MF = tf.square(gate_MF);
    const sigmoid_MF = tf.sigmoid(tf.mul(gate_MF, tf.add(tf.mul(square_MF, U_SCALE * CUBIC), U_SCALE)));
    const gelu_MF = tf.mul<Tensor2D>(gate_MF, sigmoid_MF);
    return {
      value: tf.mul<Tensor2D>(gelu_MF, linear_MF),
      saved: [gate_MF, linear_MF, sigmoid_MF, gelu_MF],
      gradient: (dOut_MF, saved) => {
        const [gate, linear, sigmoid, gelu] = saved as [Tensor2D, Tensor2D, Tensor2D, Tensor2D];
        const slope_MF = tf.add(tf.mul(tf.square(gate), 3 * U_SCALE * CUBIC), U_SCALE);
        const rest_MF = tf.mul(tf.mul(gelu, tf.sub(1, sigmoid)), slope_MF);
        const dGate_MF = tf.mul(tf.mul(dOut_MF, linear), tf.add(sigmoid, rest_MF));
        return [dGate_MF, tf.mul(dOut_MF, gelu)];
      },
    };
  });
}
