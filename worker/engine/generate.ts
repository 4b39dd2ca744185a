/** Greedy decoding by the forward pass of any engine. */
import type { ModelConfig } from '../../shared/model-config.ts';
import { greedyDecode } from '../model/greedy-decode.ts';
import type { Engine, GenerationInputs } from './engine.ts';

/** @returns [numRows, 1 + maxNewTokens], as Engine.generate says */
export async function generate(
  engine: Pick<Engine, 'forward'>,
  { vocabSize }: ModelConfig,
  inputs: GenerationInputs,
  maxNewTokens: number,
): Promise<Int32Array> {
  const ones = new Int32Array(inputs.numRows * maxNewTokens).fill(1);
  return greedyDecode(inputs.numRows, maxNewTokens, async (sequences, position) => {
    const rowOf = (i: number) => Math.floor(i / maxNewTokens);
    const decoderInputIds = ones.map((_, i) => sequences[rowOf(i) * (maxNewTokens + 1) + (i % maxNewTokens)]!);
    const targets = { targetsLength: maxNewTokens, decoderInputIds, decoderSegmentIds: ones, labels: ones };
    const { logits } = await engine.forward({ ...inputs, ...targets });
    return Float32Array.from({ length: inputs.numRows * vocabSize }, (_, i) => {
      const row = Math.floor(i / vocabSize);
      return logits[(row * maxNewTokens + position) * vocabSize + (i % vocabSize)]!;
    });
  });
}
