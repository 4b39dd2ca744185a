/** An operation with a closed-form gradient: typed `tf.customGrad`. */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';

export interface ClosedForm<Output extends Tensor> {
  readonly value: Output;
  /** Every tensor the gradient uses besides dValue; tfjs keeps these until the backward pass has run, and frees all others before. */
  readonly saved: readonly Tensor[];
  /** Gradients of the inputs, in their order, from the gradient of the value. */
  readonly gradient: (dValue: Output, saved: readonly Tensor[]) => Tensor[];
}

/**
 * Runs `forward` and records its closed form on the tape instead of the operations inside it.
 * @param inputs the tensors that get a gradient; `forward` may also use others, which then are constants
 */
export function withGradient<Output extends Tensor>(
  inputs: readonly Tensor[],
  forward: () => ClosedForm<Output>,
): Output {
  const operation = tf.customGrad<Output>((...args) => {
    const save = args[args.length - 1] as tf.GradSaveFunc;
    const { value, saved, gradient } = forward();
    save([...saved]);
    return { value, gradFunc: (dValue: Output, kept: Tensor[]) => gradient(dValue, kept) };
  });
  return operation(...inputs);
}
