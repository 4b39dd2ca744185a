/**
 * Dropout as T5 has it: x · mask with mask = 1/(1 − p) where an element is kept and 0 where not. In training steps only. Pure, but for `drop`.
 *
 * Sites, in order: both token embeddings; in each block the attention weights (after the softmax), the output of each attention, the product
 * inside the feed-forward layer, the output of that layer; both sides after their last norm (the decoder before the output layer).
 *
 * Random numbers are counted, not drawn. Philox4x32-10 (shared/random.ts) makes each mask from its row's key and its site alone:
 *
 *     key of a row      two words, 31 and 30 bits, of the stream (seed, 'dropout', step, row in the step)
 *     stream of a site  m = philox(counter: [key 0, 0, key 1 + site number, 0], key: 0x3ec8f720 0x02461e29)
 *     word 4i + j       philox(counter: [i, 0, m2, m3], key: [m0, m1])[j], read as a signed integer
 *     kept              where the word is at least −2³¹ + round(p · 2³²)
 *
 * That is TensorFlow's StatelessRandomUniformFullInt with the seed [key 0, key 1 + site number], so a graph computes its masks by itself.
 * The word of an element is its place in the row's mask, row-major. So masks do not depend on workers, microbatches or engines.
 * The gradient of x · mask is the same function of the upstream gradient: masks are computed again and never kept (docs/decisions/0017-dropout.md).
 *
 * A mask that is shared along the length (Mesh TensorFlow, T5X) has one value for all positions of a row: [D] or [F] for hidden states, [N, K]
 * for attention weights. The encoder's last site has a mask of full size even then, as in T5X. Examples packed in one row share its key.
 */
import type { Tensor } from '@tensorflow/tfjs';
import { hashName, RandomStream } from '../../shared/random.ts';
import { withGradient } from './custom-gradient.ts';
import { multiplyByMask, type MaskPlan } from './fused-kernels.ts';

export type DropoutPart =
  | 'embedding'
  | 'final'
  | 'self.attention_weights'
  | 'self.output'
  | 'cross.attention_weights'
  | 'cross.output'
  | 'ff.inner'
  | 'ff.output';

/** Their order gives the numbers of sites: add new ones at the end. */
const PARTS: readonly DropoutPart[] = [
  'embedding',
  'final',
  'self.attention_weights',
  'self.output',
  'cross.attention_weights',
  'cross.output',
  'ff.inner',
  'ff.output',
];

/** A place in the model. */
export interface DropoutSite {
  readonly side: 'encoder' | 'decoder';
  /** Of the side; 0 for the embedding and the last site. */
  readonly block: number;
  readonly part: DropoutPart;
}

export interface DropoutSettings {
  /** p: the share of elements that are dropped, in [0, 1); 0: no dropout. */
  readonly rate: number;
  /** Whether a mask is shared along the length. */
  readonly broadcastLength: boolean;
}

export const NO_DROPOUT: DropoutSettings = { rate: 0, broadcastLength: false };

/** Multiplies by the masks of one pass. Linear, and the same mask for the same site each time. */
export interface Dropout {
  /**
   * @param x hidden states [B·L, D], or attention weights [B, N, Q, K]
   * @returns of the same shape; without a gradient of its own
   */
  multiply<T extends Tensor>(x: T, site: DropoutSite): T;
}

/** Keys of rows that follow each other in a step. @returns [numRows, 2] */
export function dropoutKeys(
  seed: number,
  { step, firstRow, numRows }: { readonly step: number; readonly firstRow: number; readonly numRows: number },
): Int32Array {
  const keys = new Int32Array(2 * numRows);
  for (let row = 0; row < numRows; row++) {
    const stream = new RandomStream([seed, hashName('dropout'), step, firstRow + row]);
    keys[2 * row] = stream.nextUint32() >>> 1;
    keys[2 * row + 1] = stream.nextUint32() >>> 2; // a site number can be added within int32
  }
  return keys;
}

/** As in encoder.embedding, encoder.0.self.output, decoder.final. */
export function siteName({ side, block, part }: DropoutSite): string {
  return part === 'embedding' || part === 'final' ? `${side}.${part}` : `${side}.${block}.${part}`;
}

/** Different for every site of a model, and the same for a site in models of any depth. */
export function siteNumber({ side, block, part }: DropoutSite): number {
  return (2 * block + (side === 'encoder' ? 0 : 1)) * PARTS.length + PARTS.indexOf(part);
}

/** @param shape of what is multiplied */
export function planMask(
  { rate, broadcastLength }: DropoutSettings,
  site: DropoutSite,
  shape: readonly number[],
  numRows: number,
): MaskPlan {
  const isFull = !broadcastLength || (site.side === 'encoder' && site.part === 'final');
  const length = shape.length === 2 ? shape[0]! / numRows : shape[2]!;
  const size = shape.reduce((product, n) => product * n, 1);
  return {
    site: siteNumber(site),
    threshold: Math.round(rate * 2 ** 32) - 2 ** 31,
    scale: Math.fround(1 / (1 - rate)),
    ...(isFull ? { length: 1, inner: size / numRows } : { length, inner: shape.at(-1)! }),
  };
}

/** Masks from the keys of the rows. @param keys_B2 int32, of dropoutKeys; undefined or a rate of 0: no dropout */
export function countedDropout(settings: DropoutSettings, keys_B2: Tensor | undefined): Dropout | undefined {
  if (settings.rate === 0 || keys_B2 === undefined) return undefined;
  return {
    multiply: (x, site) => multiplyByMask(x, keys_B2, planMask(settings, site, x.shape, keys_B2.shape[0])),
  };
}

/** x · mask with its gradient; x itself without dropout. */
export function drop<T extends Tensor>(x: T, dropout: Dropout | undefined, site: DropoutSite): T {
  if (dropout === undefined) return x;
  return withGradient([x], () => ({
    value: dropout.multiply(x, site),
    saved: [],
    gradient: (dy: T) => [dropout.multiply(dy, site)],
  }));
}
