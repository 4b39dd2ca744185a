import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fromHuggingFace, modelConfigSchema } from '../../shared/model-config.ts';
import { readSafetensors } from '../../shared/safetensors.ts';
import { initialiseParameter, initialiseParameters } from './initialise.ts';
import { numElements, parameterSpecs } from './parameters.ts';

/** Published sizes: dModel, layers a side, heads, dFf, parameters with vocabulary 32,128 and dKv 64. */
const SIZES = [
  ['v1.1 small', 512, 8, 6, 1024, 76_961_152],
  ['v1.1 base', 768, 12, 12, 2048, 247_577_856],
  ['v1.1 large', 1024, 24, 16, 2816, 783_150_080],
  ['v1.1 xl', 2048, 24, 32, 5120, 2_849_757_184],
  ['v1.1 xxl', 4096, 24, 64, 10240, 11_135_332_352],
  ['v1.0 small', 512, 6, 8, 2048, 60_506_624],
  ['v1.0 base', 768, 12, 12, 3072, 222_903_552],
  ['v1.0 large', 1024, 24, 16, 4096, 737_668_096],
] as const;

describe('parameters', () => {
  for (const [name, dModel, numLayers, numHeads, dFf, expected] of SIZES)
    test(`T5 ${name} has ${expected} parameters`, () => {
      const isOld = name.startsWith('v1.0');
      const config = modelConfigSchema.parse({
        dModel,
        numLayers,
        numDecoderLayers: numLayers,
        numHeads,
        dFf,
        feedForward: isOld ? 'relu' : 'gated-gelu',
        tieEmbeddings: isOld,
      });
      assert.equal(
        parameterSpecs(config).reduce((sum, { shape }) => sum + numElements(shape), 0),
        expected,
      );
    });

  for (const folder of ['golden/t5-tiny-v1_1', 'golden/t5-tiny-v1_0'])
    test(`names and shapes are those that transformers wrote into ${folder}`, async () => {
      const { tensors } = await readSafetensors(`${folder}/model.safetensors`);
      const configJson: unknown = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8'));
      const specs = parameterSpecs(fromHuggingFace(configJson, tensors.has('lm_head.weight')));
      const ours = specs.map(({ name, shape }) => `${name} [${shape.join(', ')}]`);
      const theirs = [...tensors.values()].map(({ name, shape }) => `${name} [${shape.join(', ')}]`);
      assert.deepEqual(ours.sort(), theirs.sort());
    });
});

describe('initial parameters', () => {
  const config = modelConfigSchema.parse({
    vocabSize: 300,
    dModel: 96,
    dKv: 16,
    dFf: 80,
    numLayers: 1,
    numDecoderLayers: 1,
    numHeads: 4,
  });
  const specs = parameterSpecs(config);

  test('have the standard deviations of T5, and those of Mesh TensorFlow in the output layer', () => {
    const expected: Record<string, number> = {
      'shared.weight': 1,
      'encoder.block.0.layer.0.SelfAttention.q.weight': (96 * 16) ** -0.5,
      'encoder.block.0.layer.0.SelfAttention.k.weight': 96 ** -0.5,
      'decoder.block.0.layer.1.EncDecAttention.v.weight': 96 ** -0.5,
      'decoder.block.0.layer.0.SelfAttention.o.weight': 64 ** -0.5,
      'encoder.block.0.layer.1.DenseReluDense.wi_1.weight': 96 ** -0.5,
      'decoder.block.0.layer.2.DenseReluDense.wo.weight': 80 ** -0.5,
      'lm_head.weight': 96 ** -0.5,
    };
    const parameters = initialiseParameters(specs, 7);
    for (const [name, deviation] of Object.entries(expected)) {
      const values = parameters.get(name);
      assert.ok(values !== undefined, name);
      const found = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
      const fourStandardErrors = (4 * deviation) / Math.sqrt(2 * values.length);
      assert.ok(Math.abs(found - deviation) < fourStandardErrors, `${name}: ${found}, expected ${deviation}`);
    }
    assert.ok(parameters.get('encoder.final_layer_norm.weight')?.every((value) => value === 1));
  });

  test('are the same bytes everywhere: a pinned hash', () => {
    const values = initialiseParameter(specs[0]!, 1);
    const hash = createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');
    assert.equal(hash, 'b0c39428d70ff48180d4e9865f4e090e165da599df26ee8a61d9a9337ca1df5f');
  });

  test('depend on the seed and on the name, and on nothing else', () => {
    const named = (name: string) =>
      ({ name, shape: [4, 4], initializer: { kind: 'normal', standardDeviation: 1 } }) as const;
    const first = initialiseParameter(named('a'), 1);
    assert.deepEqual(initialiseParameter(named('a'), 1), first);
    assert.notDeepEqual(initialiseParameter(named('a'), 2), first);
    assert.notDeepEqual(initialiseParameter(named('b'), 1), first);
    const fewer = initialiseParameters(specs.slice(3, 5), 1);
    const all = initialiseParameters(specs, 1);
    for (const [name, values] of fewer) assert.deepEqual(all.get(name), values);
  });
});
