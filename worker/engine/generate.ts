/** Greedy decoding by the forward pass of any engine: one full decoder pass a token, without a cache. For checks and small samples. */
import type { ModelConfig } from '../../shared/model-config.ts';
import type { Engine, GenerationInputs } from './engine.ts';

const START = 0;
const EOS = 1;

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

/** @param sequences [numRows, length] so far, start token first, 0 beyond @returns the logits of each row at `position`, [numRows, V] */
export type NextLogits = (sequences: Int32Array, position: number) => Promise<Float32Array>;

/**
 * Appends the most likely token at each position until every row has an EOS.
 * @returns [numRows, 1 + maxNewTokens]: start token first, 0 after a row's EOS
 */
export async function greedyDecode(numRows: number, maxNewTokens: number, nextLogits: NextLogits): Promise<Int32Array> {
  const length = 1 + maxNewTokens;
  const sequences = new Int32Array(numRows * length).fill(START);
  const isDone = new Array<boolean>(numRows).fill(false);
  for (let position = 0; position < maxNewTokens && isDone.includes(false); position++) {
    const logits = await nextLogits(sequences, position);
    const vocabSize = logits.length / numRows;
    for (let row = 0; row < numRows; row++) {
      if (isDone[row] === true) continue;
      const token = indexOfLargest(logits.subarray(row * vocabSize, (row + 1) * vocabSize));
      sequences[row * length + position + 1] = token;
      isDone[row] = token === EOS;
    }
  }
  return sequences;
}

/** The first of equal ones. */
function indexOfLargest(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}
