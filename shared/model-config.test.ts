import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fromHuggingFace, modelConfigSchema, toHuggingFace } from './model-config.ts';

const readJson = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));
const tiny = {
  vocabSize: 512,
  dModel: 64,
  dKv: 16,
  dFf: 128,
  numLayers: 2,
  numDecoderLayers: 2,
  numHeads: 4,
  feedForward: 'gated-gelu',
  tieEmbeddings: false,
} as const;

describe('model configuration', () => {
  for (const file of ['config.json', 'config.classic.json']) {
    test(`${file} of T5 v1.1 reads as gated and untied`, () => {
      const config = fromHuggingFace(readJson(`golden/t5-tiny-v1_1/${file}`), true);
      assert.deepEqual(config, modelConfigSchema.parse(tiny));
    });
    test(`${file} of T5 v1.0 reads as relu and tied, also where the weights hold an lm_head alias`, () => {
      const expected = modelConfigSchema.parse({
        ...tiny,
        vocabSize: 384,
        dFf: 96,
        feedForward: 'relu',
        tieEmbeddings: true,
      });
      for (const hasLmHead of [false, true])
        assert.deepEqual(fromHuggingFace(readJson(`golden/t5-tiny-v1_0/${file}`), hasLmHead), expected);
    });
  }

  test('what is written reads back, tied and untied', () => {
    for (const tieEmbeddings of [false, true]) {
      const config = modelConfigSchema.parse({ ...tiny, tieEmbeddings, numDecoderLayers: 3 });
      assert.deepEqual(fromHuggingFace(toHuggingFace(config), !tieEmbeddings), config);
    }
  });

  test('every key of a T5 config.json of Transformers is written with the same value', () => {
    const reference = readJson('golden/t5-tiny-v1_1/config.classic.json') as Record<string, unknown>;
    const written = toHuggingFace(modelConfigSchema.parse(tiny));
    for (const [key, value] of Object.entries(reference))
      assert.deepEqual(written[key], key === 'dropout_rate' ? 0.1 : value, key);
  });

  test('refuses an untied model without its output layer, another model type, and unknown or impossible fields', () => {
    const v11 = readJson('golden/t5-tiny-v1_1/config.json') as Record<string, unknown>;
    assert.throws(() => fromHuggingFace(v11, false), { code: 'CONFIG_INVALID', message: /lm_head/ });
    assert.throws(() => fromHuggingFace({ ...v11, model_type: 'bert' }, true), { code: 'CONFIG_INVALID' });
    assert.throws(() => fromHuggingFace({ ...v11, feed_forward_proj: 'gated-silu' }, true), { code: 'CONFIG_INVALID' });
    assert.throws(() => fromHuggingFace(null, true), { code: 'CONFIG_INVALID' });
    assert.equal(modelConfigSchema.safeParse({ heads: 4 }).success, false);
    assert.equal(modelConfigSchema.safeParse({ numHeads: 0 }).success, false);
    assert.equal(modelConfigSchema.safeParse({ relativeAttentionMaxDistance: 16 }).success, false);
  });

  test('the defaults are T5 v1.1 small', () => {
    const config = modelConfigSchema.parse({});
    assert.deepEqual([config.dModel, config.numLayers, config.numHeads, config.dFf], [512, 8, 6, 1024]);
  });
});
