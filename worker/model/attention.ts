/**
 * Multi-head attention over packed rows.
 * B = rows, Q = queries of a row, K = keys of a row, M = all positions (B·Q or B·K), D = model width, N = heads, H = head width.
 *
 * There is no 1/sqrt(H): T5 folds it into the initial values of q. Masks are added to the logits: a masked logit is so low that its
 * weight is exactly 0 in float32, so a packed example has the same result as one alone in its row.
 *
 * Closed form, with P = softmax(q kᵀ + bias) and O = P v:  dv = Pᵀ dO,  dP = dO vᵀ,  dS = P·(dP − Σ_K P·dP),  dq = dS k,  dk = dSᵀ q, and dbias = dS.
 * Σ_K P·dP is Σ_H O·dO (Dao et al. 2022, FlashAttention, appendix B): a pass over [Q, H] instead of [Q, K].
 * With dropout, O = (P·mask) v: dv takes P·mask in place of P, and dP = (dO vᵀ)·mask; the sum is still Σ_H O·dO.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor2D, Tensor4D } from '@tensorflow/tfjs';
import { withGradient } from './custom-gradient.ts';
import { fusedBiasedSoftmax, fusedSoftmaxGradient, fusesBlocks } from './fused-kernels.ts';

/** Added to the logit of a key that is masked for a query. */
const MASKED = -1e9;

export interface AttentionWeights {
  /** [N·H, D] each */
  readonly q: Tensor2D;
  readonly k: Tensor2D;
  readonly v: Tensor2D;
  /** [D, N·H] */
  readonly o: Tensor2D;
}

/**
 * Queries see keys of the same segment. The mask is MASKED times the squared difference of the segment ids: 0 where they are equal, MASKED
 * or below elsewhere. Padding is segment 0 and sees padding; nothing reads what comes out there.
 * @returns [B, 1, Q, K]
 */
export function segmentMask(querySegments_BQ: Tensor2D, keySegments_BK: Tensor2D): Tensor4D {
  const [numRows, numQueries] = querySegments_BQ.shape;
  const query_B1Q1 = tf.reshape(tf.cast(querySegments_BQ, 'float32'), [numRows, 1, numQueries, 1]);
  const key_B11K = tf.reshape(tf.cast(keySegments_BK, 'float32'), [numRows, 1, 1, keySegments_BK.shape[1]]);
  return tf.mul(tf.squaredDifference(query_B1Q1, key_B11K), MASKED);
}

/** Queries see keys at their own place and before. @returns [L, L], 0 or MASKED */
export function causalMask(length: number): Tensor2D {
  const mask = new Float32Array(length * length);
  for (let query = 0; query < length; query++) mask.fill(MASKED, query * length + query + 1, (query + 1) * length);
  return tf.tensor2d(mask, [length, length]);
}

/**
 * softmax(q kᵀ + bias) v, projected back to the model width.
 * @param queries_MD [B·Q, D] @param keys_MD [B·K, D], the source of keys and values
 * @param bias_BNQK mask plus relative bias, broadcast over B or N where that dimension is 1
 * @param multiplyByMask of dropout, on the weights [B, N, Q, K]; linear
 * @returns [B·Q, D]
 */
export function attention(
  queries_MD: Tensor2D,
  keys_MD: Tensor2D,
  weights: AttentionWeights,
  bias_BNQK: Tensor4D,
  numHeads: number,
  multiplyByMask: ByMask = same,
): Tensor2D {
  const numRows = bias_BNQK.shape[0];
  const project = (x_MD: Tensor2D, weight: Tensor2D) =>
    splitHeads(tf.matMul(x_MD, weight, false, true), numRows, numHeads);
  const q_BNQH = project(queries_MD, weights.q);
  const k_BNKH = project(keys_MD, weights.k);
  const v_BNKH = project(keys_MD, weights.v);
  const context_BNQH = attend(q_BNQH, k_BNKH, v_BNKH, bias_BNQK, multiplyByMask);
  return tf.matMul(joinHeads(context_BNQH), weights.o, false, true);
}

/** Keys and values of positions that queries will see: [B, N, K, H] each. */
export interface KeysAndValues {
  readonly keys: Tensor4D;
  readonly values: Tensor4D;
}

/** Keys and values of positions. @param x_MD [B·K, D] */
export function keysAndValues(
  x_MD: Tensor2D,
  weights: Pick<AttentionWeights, 'k' | 'v'>,
  numRows: number,
  numHeads: number,
): KeysAndValues {
  const project = (weight: Tensor2D): Tensor4D => splitHeads(tf.matMul(x_MD, weight, false, true), numRows, numHeads);
  return { keys: project(weights.k), values: project(weights.v) };
}

/**
 * Attention to keys and values that are known already: decoding with a cache.
 * @param queries_MD [B·Q, D] @param bias_BNQK mask plus relative bias, broadcast where a dimension is 1
 * @returns [B·Q, D]
 */
export function attendTo(
  queries_MD: Tensor2D,
  { keys, values }: KeysAndValues,
  weights: Pick<AttentionWeights, 'q' | 'o'>,
  bias_BNQK: Tensor4D,
): Tensor2D {
  const [numRows, numHeads] = keys.shape;
  const q_BNQH = splitHeads(tf.matMul(queries_MD, weights.q, false, true), numRows, numHeads);
  const scores_BNQK = tf.matMul<Tensor4D>(q_BNQH, keys, false, true);
  const p_BNQK = tf.softmax(tf.add<Tensor4D>(scores_BNQK, bias_BNQK));
  return tf.matMul(joinHeads(tf.matMul<Tensor4D>(p_BNQK, values)), weights.o, false, true);
}

type ByMask = (p_BNQK: Tensor4D) => Tensor4D;
const same: ByMask = (p_BNQK) => p_BNQK;

/** softmax(q kᵀ + bias) v. A bias that is broadcast is a mask and gets no gradient. */
function attend(
  q_BNQH: Tensor4D,
  k_BNKH: Tensor4D,
  v_BNKH: Tensor4D,
  bias_BNQK: Tensor4D,
  multiplyByMask: ByMask,
): Tensor4D {
  const hasLearnedBias = bias_BNQK.shape[1] === q_BNQH.shape[1];
  const inputs = [q_BNQH, k_BNKH, v_BNKH, ...(hasLearnedBias ? [bias_BNQK] : [])];
  return withGradient(inputs, () => {
    const scores_BNQK = tf.matMul<Tensor4D>(q_BNQH, k_BNKH, false, true);
    const isFused = fusesBlocks();
    const p_BNQK = isFused
      ? fusedBiasedSoftmax(scores_BNQK, bias_BNQK)
      : tf.softmax(tf.add<Tensor4D>(scores_BNQK, bias_BNQK));
    const context_BNQH = tf.matMul<Tensor4D>(multiplyByMask(p_BNQK), v_BNKH);
    return {
      value: context_BNQH,
      saved: [q_BNQH, k_BNKH, v_BNKH, p_BNQK, context_BNQH],
      gradient: (dContext_BNQH, saved) => {
        const [q, k, v, p, context] = saved as [Tensor4D, Tensor4D, Tensor4D, Tensor4D, Tensor4D];
        const dP_BNQK = multiplyByMask(tf.matMul<Tensor4D>(dContext_BNQH, v, false, true));
        const dLogits_BNQK = isFused
          ? fusedSoftmaxGradient(p, dP_BNQK)
          : tf.mul<Tensor4D>(p, tf.sub(dP_BNQK, tf.sum(tf.mul(dContext_BNQH, context), -1, true)));
        const dQ = tf.matMul<Tensor4D>(dLogits_BNQK, k);
        const dK = tf.matMul<Tensor4D>(dLogits_BNQK, q, true, false);
        const dV = tf.matMul<Tensor4D>(multiplyByMask(p), dContext_BNQH, true, false);
        return [dQ, dK, dV, ...(hasLearnedBias ? [dLogits_BNQK] : [])];
      },
    };
  });
}

/** [B·L, N·H] → [B, N, L, H] */
function splitHeads(x: Tensor2D, numRows: number, numHeads: number): Tensor4D {
  const [numPositions, inner] = x.shape;
  return tf.transpose(tf.reshape(x, [numRows, numPositions / numRows, numHeads, inner / numHeads]), [0, 2, 1, 3]);
}

/** [B, N, L, H] → [B·L, N·H] */
function joinHeads(x_BNLH: Tensor4D): Tensor2D {
  const [numRows, numHeads, length, headWidth] = x_BNLH.shape;
  return tf.reshape(tf.transpose(x_BNLH, [0, 2, 1, 3]), [numRows * length, numHeads * headWidth]);
}
