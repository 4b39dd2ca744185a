import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSearch, decodeBatch } from '../../evaluation/decoding/decode-batch.ts';
import { config, decodeRowsOf, makeInputs, parameters, SETTINGS, WithoutCache } from './decoding.fixture.ts';
import { createTfjsEngine } from './tfjs-engine.ts';

const engine = await createTfjsEngine({ backend: 'wasm', config, zLoss: 0 });
await engine.load(parameters, 'zero');

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
  const decode = (rows: readonly number[]) => decodeRowsOf(engine, inputs, settings, rows);
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
