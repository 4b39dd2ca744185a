/**
 * The loss of one position: cross-entropy plus z-loss. M = positions, V = vocabulary.
 *
 * With p = softmax(logits) and log Z = logsumexp(logits):  ce = log Z − logit[label],  z = c·(log Z)².
 * Gradient on the logits: (dce + 2·c·log Z·dz)·p − dce·onehot(label); with both upstream gradients 1 that is the
 * (1 + 2·c·log Z)·softmax − onehot of Mesh TensorFlow.
 * log Z = max(logits) − log(max(p)): exact algebra, and no exponential over [M, V] besides that of the softmax.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { withGradient } from './custom-gradient.ts';

/** What a position is to predict. */
export interface Labels {
  /** int32; -1 where a position carries no loss */
  readonly ids_M: Tensor1D;
  /** float32: 1 where a position carries loss, else 0 */
  readonly hasLoss_M: Tensor1D;
}

/** @param zLoss c of above, e.g. 1e-4 @returns [M, 2]: cross-entropy and z-loss of each position, both 0 where it carries no loss */
export function crossEntropy(logits_MV: Tensor2D, labels: Labels, zLoss: number): Tensor2D {
  return withGradient([logits_MV], () => {
    const hasLoss_M1 = tf.expandDims(labels.hasLoss_M, 1);
    const oneHot_MV = tf.oneHot(labels.ids_M, logits_MV.shape[1], 1, 0, 'float32');
    const p_MV = tf.softmax(logits_MV);
    const logZ_M1 = tf.sub(tf.max(logits_MV, -1, true), tf.log(tf.max(p_MV, -1, true)));
    const labelLogit_M1 = tf.sum(tf.mul(logits_MV, oneHot_MV), -1, true);
    const terms_M2 = tf.concat([tf.sub(logZ_M1, labelLogit_M1), tf.mul(tf.square(logZ_M1), zLoss)], 1);
    return {
      value: tf.mul<Tensor2D>(terms_M2, hasLoss_M1),
      saved: [p_MV, logZ_M1, oneHot_MV, hasLoss_M1],
      gradient: (dTerms_M2, saved) => {
        const [p, logZ, oneHot, hasLoss] = saved as [Tensor2D, Tensor2D, Tensor2D, Tensor2D];
        const [dCe_M1, dZ_M1] = tf.split(tf.mul<Tensor2D>(dTerms_M2, hasLoss), 2, 1) as [Tensor2D, Tensor2D];
        const onSoftmax_M1 = tf.add(dCe_M1, tf.mul(tf.mul(dZ_M1, logZ), 2 * zLoss));
        return [tf.sub(tf.mul(p, onSoftmax_M1), tf.mul(oneHot, dCe_M1))];
      },
    };
  });
}
