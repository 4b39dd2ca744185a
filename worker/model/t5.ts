/**
 * T5 v1.1 and v1.0 as in Transformers' T5ForConditionalGeneration, over packed rows, in plain tfjs operations of static shape.
 * B = rows, S = inputs length, T = targets length, M = B·S or B·T positions, D = model width, V = vocabulary, N = heads.
 *
 * Packed rows: several examples share a row; positions of one example have one segment id (1, 2, …), padding has 0. All three attentions
 * are masked by segment. Positions need not restart in each segment: only relative distances are used, and inside a segment they are the same.
 * There is no dropout: ExT5 pre-trains without it.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor, Tensor1D, Tensor2D, Tensor4D } from '@tensorflow/tfjs';
import { assertInvariant } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { withGradient } from './custom-gradient.ts';
import { attention, causalMask, segmentMask } from './attention.ts';
import { gatedGelu, reluFeedForward } from './feed-forward.ts';
import { relativeBias } from './relative-bias.ts';
import { rmsNorm } from './rms-norm.ts';

/** Parameters by their Hugging Face name; matrices are [out, in]. */
export type Weights = ReadonlyMap<string, Tensor>;

/** One side of a batch of packed rows; int32. */
export interface Tokens {
  readonly ids_M: Tensor1D;
  /** [B, S] or [B, T] */
  readonly segmentIds: Tensor2D;
}

export interface Activations {
  /** After the encoder's final norm. [B·S, D] */
  readonly encoderOutput_MD: Tensor2D;
  /** [B·T, V] */
  readonly logits_MV: Tensor2D;
}

/** The whole forward pass. */
export function runT5(weights: Weights, config: ModelConfig, inputs: Tokens, targets: Tokens): Activations {
  const table_VD = matrix(weights, 'shared.weight');
  const embedded_MD = lookUpEmbeddings(table_VD, tf.concat([inputs.ids_M, targets.ids_M]));
  const numInputs = inputs.ids_M.size;
  const encoderOutput_MD = encode(weights, config, tf.slice(embedded_MD, 0, numInputs), inputs.segmentIds);
  const embeddedTargets_MD = tf.slice(embedded_MD, numInputs, targets.ids_M.size);
  const decoderOutput_MD = decode(weights, config, embeddedTargets_MD, targets.segmentIds, {
    output_MD: encoderOutput_MD,
    segmentIds_BS: inputs.segmentIds,
  });
  return { encoderOutput_MD, logits_MV: outputLogits(weights, config, decoderOutput_MD) };
}

/**
 * Rows of the embedding table. The gradient is one segment sum. Call it once for all ids of a step: each call costs a dense [V, D].
 * @param ids_M int32, below V
 */
function lookUpEmbeddings(table_VD: Tensor2D, ids_M: Tensor1D): Tensor2D {
  return withGradient([table_VD], () => ({
    value: tf.gather(table_VD, ids_M),
    saved: [ids_M],
    gradient: (dRows_MD, [ids]) => [tf.unsortedSegmentSum(dRows_MD, ids as Tensor1D, table_VD.shape[0])],
  }));
}

function encode(weights: Weights, config: ModelConfig, embedded_MD: Tensor2D, segmentIds_BS: Tensor2D): Tensor2D {
  const stack = new Stack(weights, config, 'encoder');
  const bias_BNSS = stack.selfAttentionBias(segmentIds_BS);
  let hidden_MD = embedded_MD;
  for (let i = 0; i < config.numLayers; i++) {
    hidden_MD = stack.selfAttention(i, hidden_MD, bias_BNSS);
    hidden_MD = stack.feedForward(i, 1, hidden_MD);
  }
  return stack.finalNorm(hidden_MD);
}

function decode(
  weights: Weights,
  config: ModelConfig,
  embedded_MD: Tensor2D,
  segmentIds_BT: Tensor2D,
  encoder: { readonly output_MD: Tensor2D; readonly segmentIds_BS: Tensor2D },
): Tensor2D {
  const stack = new Stack(weights, config, 'decoder');
  const selfBias_BNTT = tf.add<Tensor4D>(stack.selfAttentionBias(segmentIds_BT), causalMask(segmentIds_BT.shape[1]));
  const crossBias_B1TS = segmentMask(segmentIds_BT, encoder.segmentIds_BS);
  let hidden_MD = embedded_MD;
  for (let i = 0; i < config.numDecoderLayers; i++) {
    hidden_MD = stack.selfAttention(i, hidden_MD, selfBias_BNTT);
    hidden_MD = stack.crossAttention(i, hidden_MD, encoder.output_MD, crossBias_B1TS);
    hidden_MD = stack.feedForward(i, 2, hidden_MD);
  }
  return stack.finalNorm(hidden_MD);
}

/** v1.1: an output layer of its own. v1.0: the embedding table, on hidden states scaled by D^-0.5. */
function outputLogits(weights: Weights, config: ModelConfig, hidden_MD: Tensor2D): Tensor2D {
  if (!config.tieEmbeddings) return tf.matMul(hidden_MD, matrix(weights, 'lm_head.weight'), false, true);
  const scaled_MD = tf.mul<Tensor2D>(hidden_MD, config.dModel ** -0.5);
  return tf.matMul(scaled_MD, matrix(weights, 'shared.weight'), false, true);
}

/** The layers of one side; each is x + f(rmsNorm(x)). */
class Stack {
  readonly #weights: Weights;
  readonly #config: ModelConfig;
  readonly #side: 'encoder' | 'decoder';

  constructor(weights: Weights, config: ModelConfig, side: 'encoder' | 'decoder') {
    this.#weights = weights;
    this.#config = config;
    this.#side = side;
  }

  /** Segment mask plus relative bias, made once and used by all blocks of the side. [B, N, L, L] */
  selfAttentionBias(segmentIds_BL: Tensor2D): Tensor4D {
    const table_CN = this.#matrix('block.0.layer.0.SelfAttention.relative_attention_bias.weight');
    const bias_NLL = relativeBias(table_CN, segmentIds_BL.shape[1], {
      numBuckets: this.#config.relativeAttentionNumBuckets,
      maxDistance: this.#config.relativeAttentionMaxDistance,
      isBidirectional: this.#side === 'encoder',
    });
    return tf.add<Tensor4D>(segmentMask(segmentIds_BL, segmentIds_BL), bias_NLL);
  }

  selfAttention(block: number, hidden_MD: Tensor2D, bias_BNLL: Tensor4D): Tensor2D {
    const layer = `block.${block}.layer.0`;
    const x_MD = this.#norm(`${layer}.layer_norm`, hidden_MD);
    return tf.add(hidden_MD, this.#attention(`${layer}.SelfAttention`, x_MD, x_MD, bias_BNLL));
  }

  crossAttention(block: number, hidden_MD: Tensor2D, encoderOutput_MD: Tensor2D, bias_B1TS: Tensor4D): Tensor2D {
    const layer = `block.${block}.layer.1`;
    const x_MD = this.#norm(`${layer}.layer_norm`, hidden_MD);
    return tf.add(hidden_MD, this.#attention(`${layer}.EncDecAttention`, x_MD, encoderOutput_MD, bias_B1TS));
  }

  feedForward(block: number, layerIndex: number, hidden_MD: Tensor2D): Tensor2D {
    const layer = `block.${block}.layer.${layerIndex}`;
    const x_MD = this.#norm(`${layer}.layer_norm`, hidden_MD);
    const part = (name: string) => this.#matrix(`${layer}.DenseReluDense.${name}.weight`);
    const out_MD =
      this.#config.feedForward === 'gated-gelu'
        ? gatedGelu(x_MD, part('wi_0'), part('wi_1'), part('wo'))
        : reluFeedForward(x_MD, part('wi'), part('wo'));
    return tf.add(hidden_MD, out_MD);
  }

  finalNorm(hidden_MD: Tensor2D): Tensor2D {
    return this.#norm('final_layer_norm', hidden_MD);
  }

  #norm(name: string, x_MD: Tensor2D): Tensor2D {
    const weight_D = vector(this.#weights, `${this.#side}.${name}.weight`);
    return rmsNorm(x_MD, weight_D, this.#config.layerNormEpsilon);
  }

  #attention(name: string, queries_MD: Tensor2D, keys_MD: Tensor2D, bias: Tensor4D): Tensor2D {
    const part = (letter: string) => this.#matrix(`${name}.${letter}.weight`);
    const weights = { q: part('q'), k: part('k'), v: part('v'), o: part('o') };
    return attention(queries_MD, keys_MD, weights, bias, this.#config.numHeads);
  }

  #matrix(name: string): Tensor2D {
    return matrix(this.#weights, `${this.#side}.${name}`);
  }
}

function matrix(weights: Weights, name: string): Tensor2D {
  const tensor = weights.get(name);
  assertInvariant(tensor?.rank === 2, `parameter ${name} is not a matrix`);
  return tensor as Tensor2D;
}

function vector(weights: Weights, name: string): Tensor1D {
  const tensor = weights.get(name);
  assertInvariant(tensor?.rank === 1, `parameter ${name} is not a vector`);
  return tensor as Tensor1D;
}
