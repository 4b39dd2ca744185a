/**
 * Kernels beyond tfjs's own that a backend may have: one pass over memory in place of several plain operations. The model calls them by these
 * functions and has plain operations for backends without them. They run inside closed-form gradients and the optimizer, so none has a
 * gradient of its own. M = positions, D = model width, V = vocabulary, B = rows, N = heads, Q = queries, K = keys.
 *
 * FUSED_KERNELS are operations of TensorFlow, used with every backend that has them. FUSED_BLOCKS are whole building blocks of the model, by
 * kernels of our own. Only code run by `withFusedBlocks` (the recording of a graph) uses them, so that elsewhere plain operations stay the
 * reference for a recorded graph. MASK_KERNEL has no plain operations in tfjs: every backend registers it.
 */
import * as tf from '@tensorflow/tfjs';
import type { NamedAttrMap, Scalar, Tensor, Tensor1D, Tensor2D, Tensor4D } from '@tensorflow/tfjs';

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

/** Names of TensorFlow operations; their inputs and outputs are those of the functions below, in their order. */
export const FUSED_BLOCKS = {
  rmsNorm: 'ExmixRmsNorm',
  rmsNormGradient: 'ExmixRmsNormGradient',
  geluTimes: 'ExmixGeluTimes',
  geluTimesGradient: 'ExmixGeluTimesGradient',
  biasedSoftmax: 'ExmixBiasedSoftmax',
  softmaxGradient: 'ExmixSoftmaxGradient',
  crossEntropy: 'ExmixCrossEntropy',
  crossEntropyGradient: 'ExmixCrossEntropyGradient',
  adafactorFactored: 'ExmixAdafactorFactored',
  adafactorWhole: 'ExmixAdafactorWhole',
  adamw: 'ExmixAdamw',
  adamwRms: 'ExmixAdamwRms',
  multiplyByMask: 'ExmixFusedMultiplyByMask',
  product: 'ExmixProduct',
  cachedAttention: 'ExmixCachedAttention',
  likeliestTokens: 'ExmixLikeliestTokens',
} as const;

/** Geometry and numbers of one mask, for kernels. All are plain numbers: a recorded graph holds them as constants. */
export interface MaskPlan {
  readonly site: number;
  /** A signed word at least this large is kept. */
  readonly threshold: number;
  /** 1/(1 − p), float32 */
  readonly scale: number;
  /** Positions that share a value; 1: none do. */
  readonly length: number;
  /** Elements after the shared dimension: element e of a row has the word floor(e / (length · inner)) · inner + e mod inner. */
  readonly inner: number;
}

/** {x, keys_B2} and a MaskPlan as attributes → x times the mask of dropout (dropout.ts). */
export const MASK_KERNEL = 'ExmixMultiplyByMask';

let areBlocksFused = false;

/** Whether the caller must use the functions below. */
export function fusesBlocks(): boolean {
  return areBlocksFused;
}

/** Runs with fused blocks, which the backend must have. */
export function withFusedBlocks<T>(run: () => T): T {
  const before = areBlocksFused;
  areBlocksFused = true;
  try {
    return run();
  } finally {
    areBlocksFused = before;
  }
}

let areRowsIndependent = false;

/** Whether x · wᵀ must be `fusedProduct`. */
export function usesIndependentRows(): boolean {
  return areRowsIndependent;
}

/** Runs with fused blocks, and with products whose rows have the same bits alone and among others. */
export function withIndependentRows<T>(run: () => T): T {
  const before = areRowsIndependent;
  areRowsIndependent = true;
  try {
    return withFusedBlocks(run);
  } finally {
    areRowsIndependent = before;
  }
}

export function fusedRmsNorm(x_MD: Tensor2D, weight_D: Tensor1D, epsilon: number): Tensor2D {
  return run(FUSED_BLOCKS.rmsNorm, { x_MD, weight_D }, { epsilon })[0] as Tensor2D;
}

/** @returns the gradients of x and of the weight */
export function fusedRmsNormGradient(dy_MD: Tensor2D, x_MD: Tensor2D, weight_D: Tensor1D, epsilon: number): Tensor[] {
  return run(FUSED_BLOCKS.rmsNormGradient, { dy_MD, x_MD, weight_D }, { epsilon });
}

export function fusedGeluTimes(gate_MF: Tensor2D, linear_MF: Tensor2D): Tensor2D {
  return run(FUSED_BLOCKS.geluTimes, { gate_MF, linear_MF })[0] as Tensor2D;
}

/** @returns the gradients of gate and linear */
export function fusedGeluTimesGradient(dOut_MF: Tensor2D, gate_MF: Tensor2D, linear_MF: Tensor2D): Tensor[] {
  return run(FUSED_BLOCKS.geluTimesGradient, { dOut_MF, gate_MF, linear_MF });
}

/** softmax over K of scores + bias. @param bias_BNQK broadcast over B or N where that dimension is 1 */
export function fusedBiasedSoftmax(scores_BNQK: Tensor4D, bias_BNQK: Tensor4D): Tensor4D {
  return run(FUSED_BLOCKS.biasedSoftmax, { scores_BNQK, bias_BNQK })[0] as Tensor4D;
}

/** p·(dp − Σ_K p·dp) */
export function fusedSoftmaxGradient(p_BNQK: Tensor4D, dP_BNQK: Tensor4D): Tensor4D {
  return run(FUSED_BLOCKS.softmaxGradient, { p_BNQK, dP_BNQK })[0] as Tensor4D;
}

/** @param labels_M int32, each in [0, V) */
export function fusedCrossEntropy(
  logits_MV: Tensor2D,
  labels_M: Tensor1D,
): { readonly loss_M: Tensor1D; readonly logZ_M: Tensor1D } {
  const [loss, logZ] = run(FUSED_BLOCKS.crossEntropy, { logits_MV, labels_M });
  return { loss_M: loss as Tensor1D, logZ_M: logZ as Tensor1D };
}

/** onSoftmax·softmax − onLabel·onehot(label) */
export function fusedCrossEntropyGradient(inputs: {
  readonly logits_MV: Tensor2D;
  readonly labels_M: Tensor1D;
  readonly logZ_M: Tensor1D;
  readonly onSoftmax_M: Tensor1D;
  readonly onLabel_M: Tensor1D;
}): Tensor2D {
  const { logits_MV, labels_M, logZ_M, onSoftmax_M, onLabel_M } = inputs;
  return run(FUSED_BLOCKS.crossEntropyGradient, { logits_MV, labels_M, logZ_M, onSoftmax_M, onLabel_M })[0] as Tensor2D;
}

/** @param scalars learning rate, decay, its rest, scale of the gradient @returns the new parameter and slots */
export function fusedAdafactor(
  gradient: Tensor,
  parameter: Tensor,
  slots: readonly Tensor[],
  scalars: readonly Scalar[],
): Tensor[] {
  const name = slots.length === 2 ? FUSED_BLOCKS.adafactorFactored : FUSED_BLOCKS.adafactorWhole;
  const inputs = [gradient, parameter, ...slots, ...scalars];
  return run(name, Object.fromEntries(inputs.map((tensor, i) => [`input${i}`, tensor])));
}

/**
 * @param isRelative whether the step is multiplied by the parameter's size
 * @param inputs gradient, parameter, m, v, and the numbers in the order of adamw.ts @returns the new parameter, m and v
 */
export function fusedAdamw(isRelative: boolean, inputs: readonly Tensor[]): Tensor[] {
  const name = isRelative ? FUSED_BLOCKS.adamwRms : FUSED_BLOCKS.adamw;
  return run(name, Object.fromEntries(inputs.map((tensor, i) => [`input${i}`, tensor])));
}

/** x · mask. @param x rows of equal size, one for each key @param keys_B2 int32 */
export function multiplyByMask<T extends Tensor>(x: T, keys_B2: Tensor, plan: MaskPlan): T {
  return run(fusesBlocks() ? FUSED_BLOCKS.multiplyByMask : MASK_KERNEL, { x, keys_B2 }, { ...plan })[0] as T;
}

/**
 * Attention of A single queries, each to its own places of a pool of keys and values.
 * @param queries_AX [A, N·H] @param pool [P, N·H] each
 * @param places [A·L]; a query's end before the first negative one, and it has at least one
 * @param bias_LN of each place, or [1, N]
 * @returns [A, N·H]
 */
export function fusedCachedAttention(
  queries_AX: Tensor2D,
  pool: { readonly keys: Tensor2D; readonly values: Tensor2D },
  places: Tensor1D,
  bias_LN: Tensor2D,
): Tensor2D {
  const inputs = { queries_AX, keys: pool.keys, values: pool.values, places, bias_LN };
  return run(FUSED_BLOCKS.cachedAttention, inputs)[0] as Tensor2D;
}

/**
 * The C likeliest tokens of each of A hidden states, without an array of [A, V].
 * @param given [A·W], tokens whose logits are wanted @param numCandidates C, a scalar
 * @returns ids [A, C] as float32 and their logits, falling, of equal ones the smaller id first; logits [A·W]; logsumexp [A]
 */
export function fusedLikeliestTokens(
  hidden_AD: Tensor2D,
  weight_VD: Tensor2D,
  given: Tensor1D,
  numCandidates: Scalar,
): readonly [ids: Tensor, logits: Tensor, givenLogits: Tensor, normalizers: Tensor] {
  const outputs = run(FUSED_BLOCKS.likeliestTokens, { hidden_AD, weight_VD, given, numCandidates });
  return outputs as [Tensor, Tensor, Tensor, Tensor];
}

function run(name: string, inputs: Record<string, Tensor>, attributes: NamedAttrMap = {}): Tensor[] {
  const outputs = tf.engine().runKernel<Tensor | Tensor[]>(name, inputs, attributes);
  return Array.isArray(outputs) ? outputs : [outputs];
}
