import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createSearch, decodeBatch } from '../../../evaluation/decoding/decode-batch.ts';
import { parseDecodingSettings } from '../../../evaluation/decoding/settings.ts';
import { TrainerError } from '../../../shared/errors.ts';
import { exmixHome } from '../../../shared/exmix-home.ts';
import { findInstalledEngine } from '../../../shared/installed-engine.ts';
import { config, decodeRowsOf, makeInputs, parameters, SETTINGS, WithoutCache } from '../decoding.fixture.ts';
import type { Engine } from '../engine.ts';
import { createNativeEngine, type CreateNativeEngineInit } from './create-native-engine.ts';

async function engineWith(init: Partial<CreateNativeEngineInit> = {}): Promise<Engine> {
  const installed = await findInstalledEngine(exmixHome());
  if (installed === undefined)
    throw new TrainerError(
      'ENGINE_UNAVAILABLE',
      `these tests need a native engine in ${exmixHome()}: exmix engine install`,
    );
  const made = createNativeEngine({
    installed,
    config,
    zLoss: 0,
    numThreads: 2,
    device: 'cpu',
    isGpuRequired: false,
    precision: 'float32',
    xla: false,
    allowTf32: false,
    onWarning: (sentence) => assert.fail(sentence),
    ...init,
  });
  await made.load(parameters, 'zero');
  return made;
}

let engine: Engine;
/** Plain operations, called one by one. */
let eager: Engine;
before(async () => {
  engine = await engineWith();
  eager = await engineWith({ mode: 'eager' });
});
after(async () => {
  await engine.dispose();
  await eager.dispose();
});

const all = (numRows: number): number[] => Array.from({ length: numRows }, (_, row) => row);
const LONG = parseDecodingSettings({ method: 'beam', maxNewTokens: 50, minNewTokens: 50, numBeams: 3 });

for (const settings of [
  ...SETTINGS,
  LONG,
  parseDecodingSettings({ method: 'sample', maxNewTokens: 6, topK: 0, seed: 5 }),
]) {
  test(`${settings.method}, up to ${settings.maxNewTokens} tokens: with a cache and without it, the same tokens`, async () => {
    const numRows = settings === LONG ? 2 : 7;
    const inputs = makeInputs(numRows, 9);
    const cached = await decodeRowsOf(engine, inputs, settings, all(numRows));
    const searches = all(numRows).map((row) => createSearch(settings, row, config.vocabSize));
    const plain = await decodeBatch(new WithoutCache(eager, inputs), searches);
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

test('an example gives the same bits alone and among others, in whatever order', async () => {
  const inputs = makeInputs(23, 33);
  for (const settings of SETTINGS) {
    const together = await decodeRowsOf(engine, inputs, settings, all(23));
    for (const rows of [[0], [22], [7, 3], [21, 20, 19, 5, 4]]) {
      const found = await decodeRowsOf(engine, inputs, settings, rows);
      rows.forEach((row, at) => {
        assert.deepEqual(found[at], together[row], `${settings.method}, row ${row} of ${rows.join()}`);
      });
    }
  }
});

test('decoding reads the parameters that training has changed', async () => {
  const inputs = makeInputs(3, 9);
  const before = await decodeRowsOf(engine, inputs, SETTINGS[0]!, all(3));
  const negated = new Map([...parameters].map(([name, values]) => [name, name === 'lm_head.weight' ? values.map((value) => -value) : values])); // prettier-ignore
  await engine.load(negated, 'zero');
  const changed = await decodeRowsOf(engine, inputs, SETTINGS[0]!, all(3));
  await engine.load(parameters, 'zero');
  assert.notDeepEqual(changed, before);
  assert.deepEqual(await decodeRowsOf(engine, inputs, SETTINGS[0]!, all(3)), before);
});

test('decoding leaves no memory behind, and one at a time is open', async () => {
  const held = engine.memory();
  const decoding = await engine.startDecoding(makeInputs(3, 9));
  assert.ok(engine.memory().numBytes > held.numBytes);
  await assert.rejects(engine.startDecoding(makeInputs(1, 9)), { code: 'INTERNAL', message: /one at a time/u });
  decoding.dispose();
  assert.deepEqual(engine.memory(), held);
  await assert.rejects(decoding.advance([0, 1, 2], [0, 0, 0], 1), { code: 'INTERNAL', message: /after dispose/u });
});

test('a token that the model does not have is refused', async () => {
  const inputs = makeInputs(1, 4);
  inputs.encoderInputIds[2] = config.vocabSize;
  await assert.rejects(engine.startDecoding(inputs), { code: 'CONFIG_INVALID', message: /encoderInputIds\[2\]/u });
});

test('with bfloat16 products decoding goes on eagerly in float32', async () => {
  const other = await engineWith({ precision: 'bfloat16' });
  const inputs = makeInputs(3, 9);
  const ids = async (model: Engine) =>
    (await decodeRowsOf(model, inputs, SETTINGS[0]!, all(3))).map(([best]) => best!.ids);
  assert.deepEqual(await ids(other), await ids(engine));
  await other.dispose();
});
