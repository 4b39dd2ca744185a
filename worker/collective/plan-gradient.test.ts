import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkConfig } from '../../shared/config/load-config.ts';
import { numElements, parameterSpecs } from '../model/parameters.ts';
import { planGradient } from './plan-gradient.ts';

const configOf = (bucketBytes: number, gradientPrecision = 'float32') =>
  checkConfig(
    {
      name: 'test',
      model: { vocabSize: 64, dModel: 8, dKv: 4, dFf: 16, numLayers: 2, numDecoderLayers: 2, numHeads: 2 },
      mixture: { path: '/x.yaml' },
      training: { steps: 1, gradientPrecision },
      schedule: { kind: 'constant', value: 0.01 },
      collective: { bucketBytes },
    },
    'the test',
  );

describe('gradient plan', () => {
  test('holds every parameter of the model whole, last one first', () => {
    const config = configOf(1024);
    const plan = planGradient(config);
    const specs = parameterSpecs(config.model).reverse();
    assert.deepEqual(
      plan.parameters.map(({ name, numElements: length }) => [name, length]),
      specs.map(({ name, shape }) => [name, numElements(shape)]),
    );
  });

  test('buckets follow bucketBytes, and two threads make the same plan', () => {
    assert.deepEqual(planGradient(configOf(1024)), planGradient(configOf(1024)));
    assert.ok(planGradient(configOf(1024)).buckets.length > 3);
    assert.equal(planGradient(configOf(2 ** 30)).buckets.length, 1);
    assert.equal(planGradient(configOf(1024, 'bfloat16')).precision, 'bfloat16');
  });
});
