/**
 * The passes over the model as tfjs code for every engine: run eagerly, or recorded once and run as a graph.
 * M = positions of the targets.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { assertInvariant } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { crossEntropy } from '../model/cross-entropy.ts';
import type { ParameterSpec } from '../model/parameters.ts';
import { runT5, type Activations } from '../model/t5.ts';
import type { BatchTensors } from './batch-tensors.ts';
import type { ScoreOutput, StepOutput } from './engine.ts';

export interface PassInit {
  readonly config: ModelConfig;
  readonly specs: readonly ParameterSpec[];
  /** By the parameter's number. */
  readonly weights: readonly Tensor[];
  readonly batch: BatchTensors;
}

/**
 * Forward and backward pass. The caller disposes the result.
 * @returns cross-entropy and z-loss of each position, and the gradient of the sum of both by the parameter's number
 */
export function lossAndGradients(
  { config, specs, weights, batch }: PassInit,
  zLoss: number,
): { readonly terms_M2: Tensor2D; readonly gradients: readonly Tensor[] } {
  let terms_M2: Tensor2D | undefined;
  const { value, grads } = tf.valueAndGrads((...taped) => {
    const { logits_MV } = runT5(byName(specs, taped), config, batch.inputs, batch.targets);
    terms_M2 = tf.keep(crossEntropy(logits_MV, batch.labels, zLoss));
    return tf.sum(terms_M2);
  })([...weights]);
  value.dispose();
  assertInvariant(terms_M2 !== undefined, 'tfjs did not run the loss');
  return { terms_M2, gradients: grads };
}

export interface Scored {
  /** Cross-entropy and z-loss of each position. */
  readonly terms_M2: Tensor2D;
  /** int32: 1 where the label is the likeliest token, else 0, also without a label. */
  readonly isRight_M: Tensor1D;
}

/** Forward pass, losses and hits. The caller disposes the result. */
export function scores({ config, specs, weights, batch }: PassInit, zLoss: number): Scored {
  return tf.tidy(() => {
    const { logits_MV } = runT5(byName(specs, weights), config, batch.inputs, batch.targets);
    const likeliest_M = tf.argMax<Tensor1D>(logits_MV, 1);
    return {
      terms_M2: crossEntropy(logits_MV, batch.labels, zLoss),
      isRight_M: tf.cast(tf.equal<Tensor1D>(likeliest_M, batch.labels.ids_M), 'int32'),
    };
  });
}

/** Forward pass alone; the caller disposes the result. */
export function activations({ config, specs, weights, batch }: PassInit): Activations {
  return tf.tidy(() => ({ ...runT5(byName(specs, weights), config, batch.inputs, batch.targets) }));
}

/** @param terms [M, 2] */
export function stepOutput(terms: Float32Array): StepOutput {
  const column = (offset: number) => Float32Array.from({ length: terms.length / 2 }, (_, i) => terms[2 * i + offset]!);
  return { crossEntropy: column(0), zLoss: column(1) };
}

/** @param terms [M, 2] @param isRight [M] */
export function scoreOutput(terms: Float32Array, isRight: ArrayLike<number>): ScoreOutput {
  return { ...stepOutput(terms), isRight: Uint8Array.from(isRight) };
}

/** Names the weights anew in each pass: on the tape they are other tensors than the engine's. */
export function byName(specs: readonly ParameterSpec[], weights: readonly Tensor[]): ReadonlyMap<string, Tensor> {
  return new Map(specs.map(({ name }, i) => [name, weights[i]!]));
}
