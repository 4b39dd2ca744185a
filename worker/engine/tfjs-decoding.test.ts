import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { createSearch, decodeBatch, type DecodingSession } from '../../evaluation/decoding/decode-batch.ts';
import type { Candidates } from '../../evaluation/decoding/search.ts';
import { EOS_TOKEN, parseDecodingSettings } from '../../evaluation/decoding/settings.ts';
import { fromHuggingFace } from '../../shared/model-config.ts';
import { RandomStream } from '../../shared/random.ts';
import { asFloat32, readSafetensors } from '../../shared/safetensors.ts';
import { createTfjsEngine } from './tfjs-engine.ts';
import type { Engine, GenerationInputs } from './engine.ts';

const { tensors } = await readSafetensors('golden/t5-tiny-v1_1/model.safetensors');
const config = fromHuggingFace(JSON.parse(await readFile('golden/t5-tiny-v1_1/config.json', 'utf8')), true);
const engine = await createTfjsEngine({ backend: 'wasm', config, zLoss: 0 });
await engine.load(new Map([...tensors].map(([name, tensor]) => [name, asFloat32(tensor)])), 'zero');

function makeInputs(numRows: number, inputsLength: number): GenerationInputs {
  const random = new RandomStream([numRows, inputsLength]);
  const encoderSegmentIds = Int32Array.from({ length: numRows * inputsLength }, (_, at) =>
    Number(at % inputsLength <= 3 + (at % 5)),
  );
  const encoderInputIds = encoderSegmentIds.map((segment) => segment * (2 + random.nextBelow(config.vocabSize - 2)));
  return { numRows, inputsLength, encoderInputIds, encoderSegmentIds };
}

/** The whole decoder over all tokens at each step: the reference for a decoder with a cache. */
class WithoutCache implements DecodingSession {
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

const SETTINGS = [
  parseDecodingSettings({ method: 'greedy', maxNewTokens: 12 }),
  parseDecodingSettings({ method: 'beam', maxNewTokens: 10, numBeams: 4, numReturnSequences: 4 }),
  parseDecodingSettings({ method: 'beam-t5x', maxNewTokens: 10, numBeams: 3, numReturnSequences: 3 }),
  parseDecodingSettings({ method: 'sample', maxNewTokens: 10, topK: 20, seed: 3 }),
];

for (const settings of SETTINGS) {
  test(`${settings.method}: with a cache and without it, the same tokens`, async () => {
    const inputs = makeInputs(7, 9);
    const searches = () =>
      Array.from({ length: inputs.numRows }, (_, example) => createSearch(settings, example, config.vocabSize));
    const decoding = await engine.startDecoding(inputs);
    const cached = await decodeBatch(decoding, searches());
    decoding.dispose();
    const plain = await decodeBatch(new WithoutCache(engine, inputs), searches());
    assert.deepEqual(
      cached.map((hypotheses) => hypotheses.map(({ ids }) => ids)),
      plain.map((hypotheses) => hypotheses.map(({ ids }) => ids)),
    );
    for (const [example, hypotheses] of cached.entries()) {
      hypotheses.forEach(({ score }, rank) => {
        assert.ok(Math.abs(score - plain[example]![rank]!.score) < 1e-4);
      });
    }
  });
}

test('an example gives the same bits alone and among others', async () => {
  const inputs = makeInputs(6, 9);
  const settings = SETTINGS[1]!;
  const decode = async (rows: readonly number[]): Promise<unknown[]> => {
    const pick = (values: Int32Array): Int32Array =>
      Int32Array.from(rows.flatMap((row) => [...values.subarray(row * 9, row * 9 + 9)]));
    const decoding = await engine.startDecoding({
      ...inputs,
      numRows: rows.length,
      encoderInputIds: pick(inputs.encoderInputIds),
      encoderSegmentIds: pick(inputs.encoderSegmentIds),
    });
    const outputs = await decodeBatch(decoding, rows.map((row) => createSearch(settings, row, config.vocabSize))); // prettier-ignore
    decoding.dispose();
    return [...outputs];
  };
  const together = await decode([0, 1, 2, 3, 4, 5]);
  for (const row of [0, 3, 5]) assert.deepEqual((await decode([row]))[0], together[row]);
});

test('decoding leaves no tensor behind', async () => {
  const before = engine.memory();
  const decoding = await engine.startDecoding(makeInputs(3, 9));
  await decodeBatch(decoding, [0, 1, 2].map((example) => createSearch(SETTINGS[1]!, example, config.vocabSize))); // prettier-ignore
  decoding.dispose();
  assert.deepEqual(engine.memory(), before);
});

test('a token that the model does not have is refused', async () => {
  const inputs = makeInputs(1, 4);
  inputs.encoderInputIds[2] = config.vocabSize;
  await assert.rejects(engine.startDecoding(inputs), { code: 'CONFIG_INVALID', message: /encoderInputIds\[2\]/u });
});

test('score gives the losses of step, and where the label is the likeliest token', async () => {
  const targets = Int32Array.of(5, 9, 1, 7, 1, 0);
  const inputs = makeInputs(2, 9);
  const batch = {
    ...inputs,
    targetsLength: 3,
    decoderInputIds: Int32Array.of(0, 5, 9, 0, 7, 1),
    decoderSegmentIds: Int32Array.of(1, 1, 1, 1, 1, 0),
    labels: targets,
  };
  const { logits } = await engine.forward(batch);
  const likeliest = Array.from({ length: 6 }, (_, at) => {
    const row = logits.subarray(at * config.vocabSize, (at + 1) * config.vocabSize);
    return row.indexOf(Math.max(...row));
  });
  batch.labels[1] = likeliest[1]!;
  batch.labels[5] = likeliest[5]!; // padding: no hit
  const { isRight, ...losses } = await engine.score(batch);
  assert.deepEqual(losses, await engine.step(batch, () => undefined));
  assert.deepEqual(
    [...isRight],
    likeliest.map((token, at) => Number(at !== 5 && token === batch.labels[at])),
  );
  assert.equal(isRight[1], 1);
});
