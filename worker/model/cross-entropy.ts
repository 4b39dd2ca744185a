/**
 * The loss of one position: cross-entropy plus z-loss. M = positions, V = vocabulary.
 *
 * With p = softmax(logits) and log Z = logsumexp(logits):  ce = log Z − logit[label],  z = c·(log Z)².
 * Gradient on the logits: (dce + 2·c·log Z·dz)·p − dce·onehot(label); with both upstream gradients 1 that is the
 * (1 + 2·c·log Z)·softmax − onehot of Mesh TensorFlow.
 * log Z = max(logits) − log(max(p)): exact algebra, and no exponential over [M, V] besides that of the softmax.
 *
 * With a fused kernel of the backend, one pass gives ce and s = p − onehot; then log Z = ce + logit[label], and with
 * a = dce + 2·c·log Z·dz the gradient is a·s + (a − dce)·onehot: s scaled by rows, and one value added in each row.
 * The fused block gives ce and log Z, and the gradient from them: of size [M, V] only the logits are kept.
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { withGradient } from './custom-gradient.ts';
import {
  addAt,
  fusedCrossEntropy,
  fusedCrossEntropyGradient,
  fusesBlocks,
  hasFusedKernels,
  softmaxCrossEntropy,
} from './fused-kernels.ts';

/** The target of each position. */
export interface Labels {
  /** int32; -1 where a position carries no loss */
  readonly ids_M: Tensor1D;
  /** float32: 1 where a position carries loss, else 0 */
  readonly hasLoss_M: Tensor1D;
}

/** @param zLoss c of above, e.g. 1e-4 @returns [M, 2]: cross-entropy and z-loss of each position, both 0 where it carries no loss */
export function crossEntropy(logits_MV: Tensor2D, labels: Labels, zLoss: number): Tensor2D {
  if (fusesBlocks()) return fusedBlock(logits_MV, labels, zLoss);
  return hasFusedKernels() ? fused(logits_MV, labels, zLoss) : plain(logits_MV, labels, zLoss);
}

function fusedBlock(logits_MV: Tensor2D, labels: Labels, zLoss: number): Tensor2D {
  return withGradient([logits_MV], () => {
    const labels_M = tf.maximum<Tensor1D>(labels.ids_M, tf.scalar(0, 'int32'));
    const { loss_M, logZ_M } = fusedCrossEntropy(logits_MV, labels_M);
    const hasLoss_M = tf.clone(labels.hasLoss_M);
    return {
      value: lossTerms(loss_M, logZ_M, hasLoss_M, zLoss),
      saved: [logits_MV, labels_M, logZ_M, hasLoss_M],
      gradient: (dTerms_M2, saved) => {
        const [logits, ids, logZ, hasLoss] = saved as [Tensor2D, Tensor1D, Tensor1D, Tensor1D];
        const { onLabel_M, onSoftmax_M } = splitGradient(dTerms_M2, logZ, hasLoss, zLoss);
        return [fusedCrossEntropyGradient({ logits_MV: logits, labels_M: ids, logZ_M: logZ, onSoftmax_M, onLabel_M })];
      },
    };
  });
}

function fused(logits_MV: Tensor2D, labels: Labels, zLoss: number): Tensor2D {
  const [numPositions, vocabSize] = logits_MV.shape;
  return withGradient([logits_MV], () => {
    const labels_M = tf.maximum<Tensor1D>(labels.ids_M, tf.scalar(0, 'int32'));
    const rowStarts_M = tf.mul(tf.range(0, numPositions, 1, 'int32'), tf.scalar(vocabSize, 'int32'));
    const places_M = tf.add<Tensor1D>(rowStarts_M, labels_M);
    const { loss_M, difference_MV } = softmaxCrossEntropy(logits_MV, labels_M);
    const logZ_M = tf.add<Tensor1D>(loss_M, tf.gather(tf.reshape(logits_MV, [numPositions * vocabSize]), places_M));
    const hasLoss_M = tf.clone(labels.hasLoss_M);
    return {
      value: lossTerms(loss_M, logZ_M, hasLoss_M, zLoss),
      saved: [difference_MV, logZ_M, places_M, hasLoss_M],
      gradient: (dTerms_M2, saved) => {
        const [difference, logZ, places, hasLoss] = saved as [Tensor2D, Tensor1D, Tensor1D, Tensor1D];
        const { fromZ_M, onSoftmax_M } = splitGradient(dTerms_M2, logZ, hasLoss, zLoss);
        const scaled_MV = tf.mul(difference, tf.expandDims(onSoftmax_M, 1));
        // a − dce is the z-loss's part.
        return [
          tf.reshape(addAt(tf.reshape(scaled_MV, [numPositions * vocabSize]), places, fromZ_M), difference.shape),
        ];
      },
    };
  });
}

/** [M, 2]: both losses of each position, 0 where it carries none. */
function lossTerms(loss_M: Tensor1D, logZ_M: Tensor1D, hasLoss_M: Tensor1D, zLoss: number): Tensor2D {
  const terms_M2 = tf.stack([loss_M, tf.mul(tf.square(logZ_M), zLoss)], 1) as Tensor2D;
  return tf.mul<Tensor2D>(terms_M2, tf.expandDims(hasLoss_M, 1));
}

/** dce, 2·c·log Z·dz and their sum, the factor of the softmax. */
function splitGradient(dTerms_M2: Tensor2D, logZ_M: Tensor1D, hasLoss_M: Tensor1D, zLoss: number) {
  const [dCe, dZ] = tf.unstack(dTerms_M2, 1) as [Tensor1D, Tensor1D];
  const onLabel_M = tf.mul<Tensor1D>(dCe, hasLoss_M);
  const fromZ_M = tf.mul<Tensor1D>(tf.mul(tf.mul(dZ, hasLoss_M), logZ_M), 2 * zLoss);
  return { onLabel_M, fromZ_M, onSoftmax_M: tf.add<Tensor1D>(onLabel_M, fromZ_M) };
}

function plain(logits_MV: Tensor2D, labels: Labels, zLoss: number): Tensor2D {
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
