/**
 * The passes over the model as tfjs code for every engine: run eagerly, or recorded once and run as a graph.
 * M = positions of the targets.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor2D } from '@tensorflow/tfjs';
import { assertInvariant } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { crossEntropy } from '../model/cross-entropy.ts';
import type { Dropout } from '../model/dropout.ts';
import type { ParameterSpec } from '../model/parameters.ts';
import { runT5, type Activations } from '../model/t5.ts';
import type { BatchTensors } from './batch-tensors.ts';
import type { StepOutput } from './engine.ts';

export interface PassInit {
  readonly config: ModelConfig;
  readonly specs: readonly ParameterSpec[];
  /** By the parameter's number. */
  readonly weights: readonly Tensor[];
  readonly batch: BatchTensors;
  /** Of training steps; an engine's other passes have none. */
  readonly dropout?: Dropout | undefined;
}

/**
 * Forward and backward pass. The caller disposes the result.
 * @returns cross-entropy and z-loss of each position, and the gradient of the sum of both by the parameter's number
 */
export function lossAndGradients(
  { config, specs, weights, batch, dropout }: PassInit,
  zLoss: number,
): { readonly terms_M2: Tensor2D; readonly gradients: readonly Tensor[] } {
  let terms_M2: Tensor2D | undefined;
  const { value, grads } = tf.valueAndGrads((...taped) => {
    const { logits_MV } = runT5(byName(specs, taped), config, batch.inputs, batch.targets, dropout);
    terms_M2 = tf.keep(crossEntropy(logits_MV, batch.labels, zLoss));
    return tf.sum(terms_M2);
  })([...weights]);
  value.dispose();
  assertInvariant(terms_M2 !== undefined, 'tfjs did not run the loss');
  return { terms_M2, gradients: grads };
}

/** Forward pass and losses: cross-entropy and z-loss of each position, [M, 2]. The caller disposes the result. */
export function lossTerms({ config, specs, weights, batch }: PassInit, zLoss: number): Tensor2D {
  return tf.tidy(() => {
    const { logits_MV } = runT5(byName(specs, weights), config, batch.inputs, batch.targets);
    return crossEntropy(logits_MV, batch.labels, zLoss);
  });
}

/** Forward pass alone; the caller disposes the result. */
export function activations({ config, specs, weights, batch, dropout }: PassInit): Activations {
  return tf.tidy(() => ({ ...runT5(byName(specs, weights), config, batch.inputs, batch.targets, dropout) }));
}

/** @param terms [M, 2] */
export function stepOutput(terms: Float32Array): StepOutput {
  const column = (offset: number) => Float32Array.from({ length: terms.length / 2 }, (_, i) => terms[2 * i + offset]!);
  return { crossEntropy: column(0), zLoss: column(1) };
}

/** Names the weights anew in each pass: on the tape they are other tensors than the engine's. */
export function byName(specs: readonly ParameterSpec[], weights: readonly Tensor[]): ReadonlyMap<string, Tensor> {
  return new Map(specs.map(({ name }, i) => [name, weights[i]!]));
}
