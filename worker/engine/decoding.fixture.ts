/** What the tests of decoding on each engine share: the model of golden/, inputs by arithmetic, and a decoder without a cache. */
import { readFile } from 'node:fs/promises';
import type { DecodingSession } from '../../evaluation/decoding/decode-batch.ts';
import { createSearch, decodeBatch } from '../../evaluation/decoding/decode-batch.ts';
import type { Candidates, Hypothesis } from '../../evaluation/decoding/search.ts';
import { EOS_TOKEN, parseDecodingSettings, type DecodingSettings } from '../../evaluation/decoding/settings.ts';
import { fromHuggingFace } from '../../shared/model-config.ts';
import { RandomStream } from '../../shared/random.ts';
import { asFloat32, readSafetensors } from '../../shared/safetensors.ts';
import type { Engine, GenerationInputs } from './engine.ts';

const { tensors } = await readSafetensors('golden/t5-tiny-v1_1/model.safetensors');
export const config = fromHuggingFace(JSON.parse(await readFile('golden/t5-tiny-v1_1/config.json', 'utf8')), true);
export const parameters = new Map([...tensors].map(([name, tensor]) => [name, asFloat32(tensor)]));

/** Rows of several lengths. */
export function makeInputs(numRows: number, inputsLength: number): GenerationInputs {
  const random = new RandomStream([numRows, inputsLength]);
  const encoderSegmentIds = Int32Array.from({ length: numRows * inputsLength }, (_, at) =>
    Number(at % inputsLength <= 3 + (at % 5)),
  );
  const encoderInputIds = encoderSegmentIds.map((segment) => segment * (2 + random.nextBelow(config.vocabSize - 2)));
  return { numRows, inputsLength, encoderInputIds, encoderSegmentIds };
}

/** The whole decoder over all tokens at each step: the reference for a decoder with a cache. */
export class WithoutCache implements DecodingSession {
  readonly vocabSize = config.vocabSize;
  readonly #engine: Engine;
  readonly #inputs: GenerationInputs;
  #hypotheses: { example: number; tokens: number[] }[];

  constructor(model: Engine, inputs: GenerationInputs) {
    this.#engine = model;
    this.#inputs = inputs;
    this.#hypotheses = Array.from({ length: inputs.numRows }, (_, example) => ({ example, tokens: [] }));
  }

  async advance(parents: readonly number[], tokens: readonly number[], numCandidates: number): Promise<Candidates[]> {
    this.#hypotheses = parents.map((parent, at) => {
      const before = this.#hypotheses[parent]!;
      return { example: before.example, tokens: [...before.tokens, tokens[at]!] };
    });
    const { inputsLength } = this.#inputs;
    const row = (values: Int32Array, example: number): number[] =>
      Array.from(values.subarray(example * inputsLength, (example + 1) * inputsLength));
    const decoderInputIds = Int32Array.from(this.#hypotheses.flatMap((one) => one.tokens));
    const { logits } = await this.#engine.forward({
      numRows: parents.length,
      inputsLength,
      targetsLength: this.#hypotheses[0]!.tokens.length,
      encoderInputIds: Int32Array.from(
        this.#hypotheses.flatMap(({ example }) => row(this.#inputs.encoderInputIds, example)),
      ),
      encoderSegmentIds: Int32Array.from(
        this.#hypotheses.flatMap(({ example }) => row(this.#inputs.encoderSegmentIds, example)),
      ),
      decoderInputIds,
      decoderSegmentIds: decoderInputIds.map(() => 1),
      labels: decoderInputIds.map(() => -1),
    });
    return this.#hypotheses.map(({ tokens: own }, at) => {
      const last = (at + 1) * own.length - 1;
      const values = Array.from(logits.subarray(last * this.vocabSize, (last + 1) * this.vocabSize));
      const logNormalizer = Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0));
      const ids = values.map((_, id) => id).sort((a, b) => values[b]! - values[a]! || a - b).slice(0, numCandidates); // prettier-ignore
      return {
        ids,
        logProbabilities: ids.map((id) => values[id]! - logNormalizer),
        logNormalizer,
        ownLogProbabilities: [EOS_TOKEN, ...own].map((id) => values[id]! - logNormalizer),
      };
    });
  }
}

export const SETTINGS = [
  parseDecodingSettings({ method: 'greedy', maxNewTokens: 12 }),
  parseDecodingSettings({ method: 'beam', maxNewTokens: 10, numBeams: 4, numReturnSequences: 4 }),
  parseDecodingSettings({ method: 'beam-t5x', maxNewTokens: 10, numBeams: 3, numReturnSequences: 3 }),
  parseDecodingSettings({ method: 'sample', maxNewTokens: 10, topK: 20, seed: 3 }),
];

/** Some rows of the inputs, decoded together; random numbers are those of their places in the inputs. */
export async function decodeRowsOf(
  engine: Engine,
  inputs: GenerationInputs,
  settings: DecodingSettings,
  rows: readonly number[],
): Promise<readonly (readonly Hypothesis[])[]> {
  const { inputsLength } = inputs;
  const pick = (values: Int32Array): Int32Array =>
    Int32Array.from(rows.flatMap((row) => [...values.subarray(row * inputsLength, (row + 1) * inputsLength)]));
  const decoding = await engine.startDecoding({
    inputsLength,
    numRows: rows.length,
    encoderInputIds: pick(inputs.encoderInputIds),
    encoderSegmentIds: pick(inputs.encoderSegmentIds),
  });
  try {
    return await decodeBatch(decoding, rows.map((row) => createSearch(settings, row, config.vocabSize))); // prettier-ignore
  } finally {
    decoding.dispose();
  }
}
