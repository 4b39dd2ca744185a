/**
 * T5's relative position bias: a learned number for each head and each bucket of the relative distance, added to the logits of self-attention.
 * Relative distance = key position − query position. C = buckets, N = heads, L = length (queries and keys).
 *
 * The bias is a Toeplitz matrix: it depends only on key − query. So the 2L distances are looked up in the table once, as a product with a
 * one-hot matrix, and spread over [L, L]; the gradient sums along diagonals first and then over buckets, without scattered additions:
 * fast, accurate in float32, and in one order on every device.
 *
 * How row q of a [L, L] Toeplitz matrix comes out of a vector w of period 2L, w[d mod 2L] = value of distance d: repeat w, and cut the repetition
 * into rows of 2L − 1. Row q then starts at q·(2L − 1) ≡ −q (mod 2L), so its entry k is w[(k − q) mod 2L].
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor2D, Tensor3D } from '@tensorflow/tfjs';
import { withGradient } from './custom-gradient.ts';

export interface BucketScheme {
  readonly numBuckets: number;
  readonly maxDistance: number;
  /** Encoder: half of the buckets for keys after the query. Decoder: keys after the query share bucket 0. */
  readonly isBidirectional: boolean;
}

/** The bucket of one relative distance (key − query). */
export function relativePositionBucket(distance: number, scheme: BucketScheme): number {
  const numBuckets = scheme.isBidirectional ? scheme.numBuckets / 2 : scheme.numBuckets;
  const offset = scheme.isBidirectional && distance > 0 ? numBuckets : 0;
  const apart = scheme.isBidirectional ? Math.abs(distance) : Math.max(-distance, 0);
  const numExact = Math.floor(numBuckets / 2);
  if (apart < numExact) return offset + apart;
  const fraction = Math.log(apart / numExact) / Math.log(scheme.maxDistance / numExact);
  return offset + Math.min(numBuckets - 1, numExact + Math.trunc(fraction * (numBuckets - numExact)));
}

/** Buckets of the distances 0, 1, …, L − 1, (unused), −(L − 1), …, −1: the period w of above. int32 [2L] */
function bucketsByDistance(length: number, scheme: BucketScheme): Int32Array {
  return Int32Array.from({ length: 2 * length }, (_, i) =>
    relativePositionBucket(i < length ? i : i - 2 * length, scheme),
  );
}

/** The bias of every head, query and key. @returns [N, L, L] */
export function relativeBias(table_CN: Tensor2D, length: number, scheme: BucketScheme): Tensor3D {
  const numHeads = table_CN.shape[1];
  const period = 2 * length;
  return withGradient([table_CN], () => {
    const buckets = tf.tensor1d(bucketsByDistance(length, scheme), 'int32');
    const oneHot_PC = tf.oneHot(buckets, scheme.numBuckets, 1, 0, 'float32') as Tensor2D;
    const values_NP = tf.matMul<Tensor2D>(table_CN, oneHot_PC, true, true);
    const repeated_NLP = tf.add(tf.reshape(values_NP, [numHeads, 1, period]), tf.zeros([1, length, 1]));
    const cut = tf.slice(tf.reshape(repeated_NLP, [numHeads, length * period]), [0, 0], [-1, length * (period - 1)]);
    const rows = tf.reshape(cut, [numHeads, length, period - 1]);
    return {
      value: tf.slice(rows, [0, 0, 0], [-1, -1, length]) as Tensor3D,
      saved: [oneHot_PC],
      // The same steps backwards: a slice becomes zero padding, the repetition a sum.
      gradient: (dBias_NLL, [oneHot]) => {
        const dRows = tf.pad(dBias_NLL, [
          [0, 0],
          [0, 0],
          [0, length - 1],
        ]);
        const dRepeated = tf.pad(tf.reshape(dRows, [numHeads, length * (period - 1)]), [
          [0, 0],
          [0, length],
        ]);
        const dValues_NP = tf.sum<Tensor2D>(tf.reshape(dRepeated, [numHeads, length, period]), 1);
        return [tf.matMul(oneHot as Tensor2D, dValues_NP, true, true)];
      },
    };
  });
}
