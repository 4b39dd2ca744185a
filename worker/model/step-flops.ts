/**
 * Floating point operations of the matrix products of one T5 step. Pure. A product of [m, k] and [k, n] counts 2·m·k·n; the backward pass
 * computes two products for each of the forward pass. Embeddings are looked up and count nothing; element by element work is not counted.
 *
 * B = rows, S and T = lengths of inputs and targets, D = model width, I = heads × head width, F = feed-forward width, V = vocabulary.
 *
 *     encoder block     8·B·S·D·I  (q, k, v, o)  + 4·B·S·S·I (scores, context)  + 2·g·B·S·D·F
 *     decoder block     8·B·T·D·I                + 4·B·T·T·I                    + 2·g·B·T·D·F
 *       and across      4·B·T·D·I  (q, o)  + 4·B·S·D·I (k, v)  + 4·B·T·S·I
 *     output layer      2·B·T·D·V
 *
 * with g = 3 matrices for gated-gelu, 2 for relu. Padding counts as tokens do: shapes are static.
 */
import type { ModelConfig } from '../../shared/model-config.ts';

/** Static shape of what one pass takes. */
export interface BatchShape {
  readonly numRows: number;
  /** Tokens of a packed row. */
  readonly inputsLength: number;
  readonly targetsLength: number;
}

/** Of one forward pass. */
export function forwardFlops(config: ModelConfig, { numRows, inputsLength, targetsLength }: BatchShape): number {
  const { dModel, dKv, dFf, numHeads, numLayers, numDecoderLayers, vocabSize } = config;
  const inner = numHeads * dKv;
  const numMatrices = config.feedForward === 'gated-gelu' ? 3 : 2;
  const feedForward = (positions: number) => 2 * numMatrices * positions * dModel * dFf;
  const selfAttention = (length: number) =>
    numRows * (8 * length * dModel * inner + 4 * length * length * inner) + feedForward(numRows * length);
  const crossAttention =
    numRows * (4 * (inputsLength + targetsLength) * dModel * inner + 4 * targetsLength * inputsLength * inner);
  return (
    numLayers * selfAttention(inputsLength) +
    numDecoderLayers * (selfAttention(targetsLength) + crossAttention) +
    2 * numRows * targetsLength * dModel * vocabSize
  );
}

/** Of one forward and backward pass. */
export function stepFlops(config: ModelConfig, shape: BatchShape): number {
  return 3 * forwardFlops(config, shape);
}
