/**
 * Kernels beyond tfjs's own that a backend may bring: one pass over memory where plain operations take several. The model asks for them by
 * these functions and has plain operations for the backends without. They are used inside of closed-form gradients and of the optimizer,
 * so none has a gradient of its own. M = positions, V = vocabulary.
 */
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';

/** The names under which a backend registers them. */
export const FUSED_KERNELS = {
  /** {x} → half of the sum of its squares, a scalar. */
  halfSumOfSquares: 'ExmixHalfSumOfSquares',
  /** {logits_MV, labels_M} → the cross-entropy [M], and softmax − one-hot [M, V]. */
  softmaxCrossEntropy: 'ExmixSoftmaxCrossEntropy',
  /** {x_K, indices_M, values_M} → x with each value added at its index. */
  addAt: 'ExmixAddAt',
} as const;

export function hasFusedKernels(): boolean {
  const backend = tf.getBackend();
  return Object.values(FUSED_KERNELS).every((name) => (tf.getKernel(name, backend) as unknown) != null);
}

export function halfSumOfSquares(x: Tensor): Scalar {
  return run(FUSED_KERNELS.halfSumOfSquares, { x })[0] as Scalar;
}

/** @param labels_M int32, each in [0, V) */
export function softmaxCrossEntropy(
  logits_MV: Tensor2D,
  labels_M: Tensor1D,
): { readonly loss_M: Tensor1D; readonly difference_MV: Tensor2D } {
  const [loss, difference] = run(FUSED_KERNELS.softmaxCrossEntropy, { logits: logits_MV, labels: labels_M });
  return { loss_M: loss as Tensor1D, difference_MV: difference as Tensor2D };
}

/** @param indices_M int32, each in [0, K) and none twice */
export function addAt(x_K: Tensor1D, indices_M: Tensor1D, values_M: Tensor1D): Tensor1D {
  return run(FUSED_KERNELS.addAt, { x: x_K, indices: indices_M, values: values_M })[0] as Tensor1D;
}

function run(name: string, inputs: Record<string, Tensor>): Tensor[] {
  const outputs = tf.engine().runKernel<Tensor | Tensor[]>(name, inputs);
  return Array.isArray(outputs) ? outputs : [outputs];
}
