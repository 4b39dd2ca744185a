import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { encodeHuggingFaceJson } from './hugging-face-json.ts';

describe('config.json for Transformers', () => {
  test('floats have a point; integers and all other values are as in JSON', () => {
    const config = {
      d_ff: 1,
      dropout_rate: 0,
      initializer_factor: 1,
      layer_norm_epsilon: 1e-6,
      nested: { dropout_rate: 0 },
    };
    assert.equal(
      encodeHuggingFaceJson(config),
      `{
  "d_ff": 1,
  "dropout_rate": 0.0,
  "initializer_factor": 1.0,
  "layer_norm_epsilon": 0.000001,
  "nested": {
    "dropout_rate": 0.0
  }
}
`,
    );
    assert.deepEqual(JSON.parse(encodeHuggingFaceJson(config)), config);
  });

  test('text that only looks like such a field is not changed', () => {
    const value = { note: '"dropout_rate": 0', dropout_rate: 0.1, list: [1] };
    assert.equal(encodeHuggingFaceJson(value), `${JSON.stringify(value, null, 2)}\n`);
  });
});
