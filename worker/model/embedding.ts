/** The lookup of token embeddings. V = vocabulary, D = model width, M = positions. */
import * as tf from '@tensorflow/tfjs';
import type { Tensor1D, Tensor2D } from '@tensorflow/tfjs';
import { withGradient } from './custom-gradient.ts';

/**
 * Rows of the table. The gradient is one segment sum: call it once for all ids of a step, since each call costs a dense [V, D].
 * @param ids_M int32, below V
 */
export function lookUpEmbeddings(table_VD: Tensor2D, ids_M: Tensor1D): Tensor2D {
  return withGradient([table_VD], () => ({
    value: tf.gather(table_VD, ids_M),
    saved: [ids_M],
    gradient: (dRows_MD, [ids]) => [tf.unsortedSegmentSum(dRows_MD, ids as Tensor1D, table_VD.shape[0])],
  }));
}
