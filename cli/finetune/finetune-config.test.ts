import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Tree } from '../../shared/config/load-config.ts';
import { finetuneTree, stepsOfPass, withValidation } from './finetune-config.ts';

const ORIGIN = {
  name: 'demo',
  seed: 7,
  featureLengths: { inputs: 128, targets: 48 },
  mixture: { path: '/m.yaml', tokenizer: '/t.model', prepared: '/p', denoisingRatio: 2, rates: { a: 1 } },
  training: { steps: 400, rowsPerStep: 16, numLanes: 8, microbatchRows: 2, zLoss: 1 },
  schedule: { kind: 'inverse-square-root', warmupSteps: 10 },
  compute: { engine: 'wasm' },
};
const made = (file?: Tree, origin: Tree | undefined = ORIGIN) =>
  finetuneTree({ from: '/run', name: 'f', origin, file, tasks: ['a'] });

describe('the config of a fine-tuning run', () => {
  test('is T5’s recipe over lengths, batch and mixture of the run that made the model', () => {
    assert.deepEqual(made(), {
      name: 'f',
      init: { from: '/run', optimizer: 'fresh' },
      featureLengths: { inputs: 128, targets: 48 },
      mixture: { path: '/m.yaml', tokenizer: '/t.model', denoisingRatio: 0, tasks: ['a'] },
      training: { steps: 1000, rowsPerStep: 16, numLanes: 8, microbatchRows: 2, dropout: { rate: 0.1 } },
      schedule: { kind: 'constant', value: 0.001 },
    });
  });

  test('of a model that exmix did not make has T5’s lengths and batch', () => {
    const { featureLengths, training } = finetuneTree({ from: '/hf', name: 'f', origin: undefined, file: undefined, tasks: [] }); // prettier-ignore
    assert.deepEqual(featureLengths, { inputs: 512, targets: 128 });
    assert.deepEqual((training as Tree)['rowsPerStep'], 128);
  });

  test('a file wins over both, and another kind of schedule replaces the recipe’s', () => {
    const tree = made({ name: 'mine', schedule: { kind: 'linear', peak: 1 }, training: { dropout: { rate: 0 } } });
    assert.deepEqual([tree['name'], tree['schedule']], ['mine', { kind: 'linear', peak: 1 }]);
    assert.deepEqual((tree['training'] as Tree)['dropout'], { rate: 0 });
  });

  test('validates about once a pass, 4 to 20 times, and keeps the best checkpoint', () => {
    for (const [passSteps, everySteps] of [[1, 50], [130, 130], [4000, 250]] as const) {
      const { evaluation, checkpoint } = withValidation({}, 1000, passSteps);
      assert.equal((evaluation as Tree)['everySteps'], everySteps);
      assert.deepEqual(checkpoint, { everySteps, keepLast: 1, keepBest: { metric: 'mean', count: 1 } });
    }
    const own = withValidation({ evaluation: { everySteps: 7 } }, 1000, 130);
    assert.equal((own['evaluation'] as Tree)['everySteps'], 7);
  }); // prettier-ignore

  test('a pass is as long as its fuller side', () => {
    const facts = { rowsPerStep: 4, featureLengths: { inputs: 100, targets: 10 } };
    assert.equal(stepsOfPass({ ...facts, inputTokens: 4000, targetTokens: 10 }), 10);
    assert.equal(stepsOfPass({ ...facts, inputTokens: 10, targetTokens: 401 }), 11);
    assert.equal(stepsOfPass({ ...facts, inputTokens: 1, targetTokens: 1 }), 1);
  });
});
