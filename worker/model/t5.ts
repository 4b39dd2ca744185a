/**
 * T5 v1.1 and v1.0 as in Transformers' T5ForConditionalGeneration, over packed rows, in plain tfjs operations of static shape.
 * B = rows, S = inputs length, T = targets length, M = B·S or B·T positions, D = model width, V = vocabulary, N = heads.
 *
 * Packed rows: several examples share a row; positions of one example have one segment id (1, 2, …), padding has 0. All three attentions
 * are masked by segment. Positions need not restart in each segment: only relative distances are used, and inside a segment they are the same.
 * Dropout is for training steps; ExT5 pre-trains without it (dropout.ts).
 */
import * as tf from '@tensorflow/tfjs';
import type { Scalar, Tensor, Tensor1D, Tensor2D, Tensor4D } from '@tensorflow/tfjs';
import { assertInvariant } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { withGradient } from './custom-gradient.ts';
import {
  attendTo,
  attention,
  causalMask,
  keysAndValues,
  segmentMask,
  type AttentionWeights,
  type KeysAndValues,
} from './attention.ts';
import { drop, type Dropout, type DropoutPart } from './dropout.ts';
import { gatedGelu, reluFeedForward } from './feed-forward.ts';
import { fusedCachedAttention, fusedLikeliestTokens } from './fused-kernels.ts';
import { relativeBias, relativePositionBucket } from './relative-bias.ts';
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

/** The whole forward pass. @param dropout in training steps */
export function runT5(
  weights: Weights,
  config: ModelConfig,
  inputs: Tokens,
  targets: Tokens,
  dropout?: Dropout,
): Activations {
  const table_VD = matrix(weights, 'shared.weight');
  const embedded_MD = lookUpEmbeddings(table_VD, tf.concat([inputs.ids_M, targets.ids_M]));
  const numInputs = inputs.ids_M.size;
  const encoder = new Stack(weights, config, 'encoder', dropout);
  const encoderOutput_MD = encode(encoder, tf.slice(embedded_MD, 0, numInputs), inputs.segmentIds);
  const embeddedTargets_MD = tf.slice(embedded_MD, numInputs, targets.ids_M.size);
  const decoder = new Stack(weights, config, 'decoder', dropout);
  const decoderOutput_MD = decode(decoder, embeddedTargets_MD, targets.segmentIds, {
    output_MD: encoderOutput_MD,
    segmentIds_BS: inputs.segmentIds,
  });
  return { encoderOutput_MD, logits_MV: outputLogits(weights, config, decoderOutput_MD) };
}

/**
 * What decoding keeps of the inputs: for each decoder block the keys and values of its cross-attention, [B, N, S, H], and the mask of padding.
 * B = examples, G = hypotheses of an example, t = tokens decoded before.
 */
export interface EncodedInputs {
  readonly cross: readonly KeysAndValues[];
  /** [B, 1, 1, S] */
  readonly crossBias_B11S: Tensor4D;
}

/** Runs the encoder once. Each row is one example: its segment ids are 1, and 0 at padding. */
export function encodeInputs(weights: Weights, config: ModelConfig, inputs: Tokens): EncodedInputs {
  const embedded_MD = tf.gather(matrix(weights, 'shared.weight'), inputs.ids_M);
  const output_MD = encode(new Stack(weights, config, 'encoder'), embedded_MD, inputs.segmentIds);
  const stack = new Stack(weights, config, 'decoder');
  const numRows = inputs.segmentIds.shape[0];
  const blocks = Array.from({ length: config.numDecoderLayers }, (_, block) => block);
  return {
    cross: blocks.map((block) => stack.crossKeysAndValues(block, output_MD, numRows)),
    crossBias_B11S: segmentMask(tf.ones([numRows, 1], 'int32'), inputs.segmentIds),
  };
}

/**
 * One step of the decoder with a cache: the next token of each hypothesis.
 *
 * @param tokens_M token at position t of each hypothesis, [B·G] int32
 * @param past keys and values of positions 0 to t − 1 of each decoder block, [B·G, N, t, H]; empty at the first position
 * @returns logits [B·G, V], and keys and values of positions 0 to t
 */
export function decodeNext(
  weights: Weights,
  config: ModelConfig,
  encoded: EncodedInputs,
  tokens_M: Tensor1D,
  past: readonly KeysAndValues[],
): { readonly logits_MV: Tensor2D; readonly present: readonly KeysAndValues[] } {
  const stack = new Stack(weights, config, 'decoder');
  const position = past[0]?.keys.shape[2] ?? 0;
  const selfBias_1N1T = stack.biasOfPosition(position);
  const present: KeysAndValues[] = [];
  let hidden_MD = tf.gather(matrix(weights, 'shared.weight'), tokens_M);
  for (let block = 0; block < config.numDecoderLayers; block++) {
    const self = stack.cachedSelfAttention(block, hidden_MD, past[block], selfBias_1N1T);
    present.push(self.present);
    hidden_MD = stack.cachedCrossAttention(block, self.hidden_MD, encoded.cross[block]!, encoded.crossBias_B11S);
    hidden_MD = stack.feedForward(block, 2, hidden_MD);
  }
  return { logits_MV: outputLogits(weights, config, stack.finalNorm(hidden_MD)), present };
}

/** Keys and values of positions, each [P, N·H]: a place is a row. */
export interface KeyValuePool {
  readonly keys: Tensor2D;
  readonly values: Tensor2D;
}

/** Runs the encoder once, as `encodeInputs` does: keys and values of every input position for each decoder block, P = B·S. */
export function encodeToPools(weights: Weights, config: ModelConfig, inputs: Tokens): readonly KeyValuePool[] {
  const embedded_MD = tf.gather(matrix(weights, 'shared.weight'), inputs.ids_M);
  const output_MD = encode(new Stack(weights, config, 'encoder'), embedded_MD, inputs.segmentIds);
  const project = (block: number, letter: 'k' | 'v'): Tensor2D =>
    tf.matMul(
      output_MD,
      matrix(weights, `decoder.block.${block}.layer.1.EncDecAttention.${letter}.weight`),
      false,
      true,
    );
  return Array.from({ length: config.numDecoderLayers }, (_, block) => ({
    keys: project(block, 'k'),
    values: project(block, 'v'),
  }));
}

/** One position of A hypotheses. L = places of a hypothesis, S = places of its inputs; lists end before the first negative place. */
export interface DecodedRows {
  /** [A] int32 */
  readonly tokens: Tensor1D;
  /** [A·L], the position itself included */
  readonly selfPlaces: Tensor1D;
  /** [A·S] */
  readonly crossPlaces: Tensor1D;
  /** [L], the bucket of each position's distance */
  readonly buckets: Tensor1D;
  /** [A·W], tokens whose logits are wanted */
  readonly given: Tensor1D;
  /** Likeliest tokens of each hypothesis. */
  readonly numCandidates: Scalar;
}

/**
 * One step of the decoder, as `decodeNext`, for hypotheses whose keys and values lie in pools: no array has a shape that depends on A, L or S
 * but its inputs, and nothing is moved. It uses fused blocks only.
 * @param append puts keys and values of the A hypotheses into the pool of a block, and gives the pool
 * @returns as fusedLikeliestTokens
 */
export function decodeRows(
  weights: Weights,
  config: ModelConfig,
  rows: DecodedRows,
  cross: readonly KeyValuePool[],
  append: (block: number, now: KeyValuePool) => KeyValuePool,
): readonly Tensor[] {
  const stack = new Stack(weights, config, 'decoder');
  const selfBias_LN = stack.biasOfBuckets(rows.buckets);
  const noBias_1N = tf.zeros<tf.Rank.R2>([1, config.numHeads]);
  let hidden_AD = tf.gather(matrix(weights, 'shared.weight'), rows.tokens);
  for (let block = 0; block < config.numDecoderLayers; block++) {
    hidden_AD = stack.rowAttention(block, 'self', hidden_AD, (queries, keys, values) =>
      fusedCachedAttention(queries, append(block, { keys: keys(), values: values() }), rows.selfPlaces, selfBias_LN),
    );
    hidden_AD = stack.rowAttention(block, 'cross', hidden_AD, (queries) =>
      fusedCachedAttention(queries, cross[block]!, rows.crossPlaces, noBias_1N),
    );
    hidden_AD = stack.feedForward(block, 2, hidden_AD);
  }
  const output_AD = stack.finalNorm(hidden_AD);
  const { table_VD, scale } = outputLayer(weights, config);
  const scaled_AD = scale === 1 ? output_AD : tf.mul<Tensor2D>(output_AD, scale);
  return fusedLikeliestTokens(scaled_AD, table_VD, rows.given, rows.numCandidates);
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

function encode(stack: Stack, embedded_MD: Tensor2D, segmentIds_BS: Tensor2D): Tensor2D {
  const bias_BNSS = stack.selfAttentionBias(segmentIds_BS);
  let hidden_MD = stack.drop(embedded_MD, 0, 'embedding');
  for (let i = 0; i < stack.numBlocks; i++) {
    hidden_MD = stack.selfAttention(i, hidden_MD, bias_BNSS);
    hidden_MD = stack.feedForward(i, 1, hidden_MD);
  }
  return stack.drop(stack.finalNorm(hidden_MD), 0, 'final');
}

function decode(
  stack: Stack,
  embedded_MD: Tensor2D,
  segmentIds_BT: Tensor2D,
  encoder: { readonly output_MD: Tensor2D; readonly segmentIds_BS: Tensor2D },
): Tensor2D {
  const selfBias_BNTT = tf.add<Tensor4D>(stack.selfAttentionBias(segmentIds_BT), causalMask(segmentIds_BT.shape[1]));
  const crossBias_B1TS = segmentMask(segmentIds_BT, encoder.segmentIds_BS);
  let hidden_MD = stack.drop(embedded_MD, 0, 'embedding');
  for (let i = 0; i < stack.numBlocks; i++) {
    hidden_MD = stack.selfAttention(i, hidden_MD, selfBias_BNTT);
    hidden_MD = stack.crossAttention(i, hidden_MD, encoder.output_MD, crossBias_B1TS);
    hidden_MD = stack.feedForward(i, 2, hidden_MD);
  }
  return stack.drop(stack.finalNorm(hidden_MD), 0, 'final');
}

function outputLogits(weights: Weights, config: ModelConfig, hidden_MD: Tensor2D): Tensor2D {
  const { table_VD, scale } = outputLayer(weights, config);
  const scaled_MD = scale === 1 ? hidden_MD : tf.mul<Tensor2D>(hidden_MD, scale);
  return tf.matMul(scaled_MD, table_VD, false, true);
}

/** v1.1: an output layer of its own. v1.0: the embedding table, on hidden states scaled by D^-0.5. */
function outputLayer(weights: Weights, config: ModelConfig): { readonly table_VD: Tensor2D; readonly scale: number } {
  if (!config.tieEmbeddings) return { table_VD: matrix(weights, 'lm_head.weight'), scale: 1 };
  return { table_VD: matrix(weights, 'shared.weight'), scale: config.dModel ** -0.5 };
}

/** The layers of one side; each is x + f(rmsNorm(x)). */
class Stack {
  readonly #weights: Weights;
  readonly #config: ModelConfig;
  readonly #side: 'encoder' | 'decoder';
  readonly #dropout: Dropout | undefined;

  constructor(weights: Weights, config: ModelConfig, side: 'encoder' | 'decoder', dropout?: Dropout) {
    this.#weights = weights;
    this.#config = config;
    this.#side = side;
    this.#dropout = dropout;
  }

  get numBlocks(): number {
    return this.#side === 'encoder' ? this.#config.numLayers : this.#config.numDecoderLayers;
  }

  drop<T extends Tensor>(x: T, block: number, part: DropoutPart): T {
    return drop(x, this.#dropout, { side: this.#side, block, part });
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
    const out_MD = this.#attention(block, 'self', x_MD, x_MD, bias_BNLL);
    return tf.add(hidden_MD, this.drop(out_MD, block, 'self.output'));
  }

  crossAttention(block: number, hidden_MD: Tensor2D, encoderOutput_MD: Tensor2D, bias_B1TS: Tensor4D): Tensor2D {
    const layer = `block.${block}.layer.1`;
    const x_MD = this.#norm(`${layer}.layer_norm`, hidden_MD);
    const out_MD = this.#attention(block, 'cross', x_MD, encoderOutput_MD, bias_B1TS);
    return tf.add(hidden_MD, this.drop(out_MD, block, 'cross.output'));
  }

  /** Relative bias of the query at a position for the keys up to it. [1, N, 1, position + 1] */
  biasOfPosition(position: number): Tensor4D {
    const table_CN = this.#matrix('block.0.layer.0.SelfAttention.relative_attention_bias.weight');
    const scheme = {
      numBuckets: this.#config.relativeAttentionNumBuckets,
      maxDistance: this.#config.relativeAttentionMaxDistance,
      isBidirectional: false,
    };
    const buckets = Int32Array.from({ length: position + 1 }, (_, key) =>
      relativePositionBucket(key - position, scheme),
    );
    const bias_TN = tf.gather(table_CN, tf.tensor1d(buckets, 'int32'));
    return tf.reshape(tf.transpose(bias_TN), [1, this.#config.numHeads, 1, position + 1]);
  }

  /** @param past of positions before; undefined at the first */
  cachedSelfAttention(
    block: number,
    hidden_MD: Tensor2D,
    past: KeysAndValues | undefined,
    bias_1N1T: Tensor4D,
  ): { readonly hidden_MD: Tensor2D; readonly present: KeysAndValues } {
    const layer = `block.${block}.layer.0`;
    const x_MD = this.#norm(`${layer}.layer_norm`, hidden_MD);
    const weights = this.#attentionWeights(`${layer}.SelfAttention`);
    const now = keysAndValues(x_MD, weights, x_MD.shape[0], this.#config.numHeads);
    const present =
      past === undefined
        ? now
        : { keys: tf.concat([past.keys, now.keys], 2), values: tf.concat([past.values, now.values], 2) };
    return { hidden_MD: tf.add(hidden_MD, attendTo(x_MD, present, weights, bias_1N1T)), present };
  }

  cachedCrossAttention(block: number, hidden_MD: Tensor2D, cross: KeysAndValues, bias_B11S: Tensor4D): Tensor2D {
    const layer = `block.${block}.layer.1`;
    const x_MD = this.#norm(`${layer}.layer_norm`, hidden_MD);
    const weights = this.#attentionWeights(`${layer}.EncDecAttention`);
    return tf.add(hidden_MD, attendTo(x_MD, cross, weights, bias_B11S));
  }

  /** Relative bias of a query for a key of each bucket. @returns [L, N] */
  biasOfBuckets(buckets_L: Tensor1D): Tensor2D {
    return tf.gather(this.#matrix('block.0.layer.0.SelfAttention.relative_attention_bias.weight'), buckets_L);
  }

  /** x + o(attend(q(norm(x)))). @param attend gets the queries, and makes keys and values of the same positions where it wants them */
  rowAttention(
    block: number,
    kind: 'self' | 'cross',
    hidden_AD: Tensor2D,
    attend: (queries_AX: Tensor2D, keys: () => Tensor2D, values: () => Tensor2D) => Tensor2D,
  ): Tensor2D {
    const layer = `block.${block}.layer.${kind === 'self' ? 0 : 1}`;
    const weights = this.#attentionWeights(`${layer}.${kind === 'self' ? 'SelfAttention' : 'EncDecAttention'}`);
    const x_AD = this.#norm(`${layer}.layer_norm`, hidden_AD);
    const project = (weight: Tensor2D): Tensor2D => tf.matMul(x_AD, weight, false, true);
    const context_AX = attend(
      project(weights.q),
      () => project(weights.k),
      () => project(weights.v),
    );
    return tf.add(hidden_AD, tf.matMul<Tensor2D>(context_AX, weights.o, false, true));
  }

  crossKeysAndValues(block: number, encoderOutput_MD: Tensor2D, numRows: number): KeysAndValues {
    const weights = this.#attentionWeights(`block.${block}.layer.1.EncDecAttention`);
    return keysAndValues(encoderOutput_MD, weights, numRows, this.#config.numHeads);
  }

  feedForward(block: number, layerIndex: number, hidden_MD: Tensor2D): Tensor2D {
    const layer = `block.${block}.layer.${layerIndex}`;
    const x_MD = this.#norm(`${layer}.layer_norm`, hidden_MD);
    const part = (name: string) => this.#matrix(`${layer}.DenseReluDense.${name}.weight`);
    const dropInner = (inner_MF: Tensor2D) => this.drop(inner_MF, block, 'ff.inner');
    const out_MD =
      this.#config.feedForward === 'gated-gelu'
        ? gatedGelu(x_MD, part('wi_0'), part('wi_1'), part('wo'), dropInner)
        : reluFeedForward(x_MD, part('wi'), part('wo'), dropInner);
    return tf.add(hidden_MD, this.drop(out_MD, block, 'ff.output'));
  }

  finalNorm(hidden_MD: Tensor2D): Tensor2D {
    return this.#norm('final_layer_norm', hidden_MD);
  }

  #norm(name: string, x_MD: Tensor2D): Tensor2D {
    const weight_D = vector(this.#weights, `${this.#side}.${name}.weight`);
    return rmsNorm(x_MD, weight_D, this.#config.layerNormEpsilon);
  }

  #attention(block: number, kind: 'self' | 'cross', queries_MD: Tensor2D, keys_MD: Tensor2D, bias: Tensor4D): Tensor2D {
    const name = kind === 'self' ? 'layer.0.SelfAttention' : 'layer.1.EncDecAttention';
    const site = { side: this.#side, block, part: `${kind}.attention_weights` } as const;
    const dropout = this.#dropout;
    const weights = this.#attentionWeights(`block.${block}.${name}`);
    const multiplyByMask = dropout === undefined ? undefined : (p: Tensor4D) => dropout.multiply(p, site);
    return attention(queries_MD, keys_MD, weights, bias, this.#config.numHeads, multiplyByMask);
  }

  #attentionWeights(name: string): AttentionWeights {
    const part = (letter: string) => this.#matrix(`${name}.${letter}.weight`);
    return { q: part('q'), k: part('k'), v: part('v'), o: part('o') };
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
