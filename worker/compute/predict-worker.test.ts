import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkConfig } from '../../shared/config/load-config.ts';
import { createEngine } from '../engine-choice/create-engine.ts';
import { predictWorker } from './predict-worker.ts';

const TREE = {
  name: 'predicted',
  model: { vocabSize: 512, dModel: 64, dKv: 16, dFf: 128, numLayers: 1, numDecoderLayers: 1, numHeads: 4 },
  featureLengths: { inputs: 32, targets: 16 },
  mixture: { path: '/mixture.yaml' },
  training: { steps: 1, rowsPerStep: 32, numLanes: 16, microbatchRows: 2 },
  schedule: { kind: 'constant' },
};

describe('the prediction of a worker', () => {
  test('a time for microbatch and update, and less memory the more workers share the lanes', async () => {
    const alone = checkConfig({ ...TREE, cluster: { minWorkers: 1 } }, 'the test');
    const shared = checkConfig({ ...TREE, cluster: { minWorkers: 16 } }, 'the test');
    const { engine } = await createEngine({ name: 'wasm', config: alone.model, zLoss: 0 });
    const predicted = await predictWorker(alone, engine.description.name);
    assert.ok(predicted.microbatchMs > 0 && predicted.microbatchMs < 60_000, JSON.stringify(predicted));
    assert.ok(predicted.updateMs > 0 && predicted.updateMs < 60_000);
    assert.ok(Number.isInteger(predicted.workerBytes));
    assert.ok((await predictWorker(shared, engine.description.name)).workerBytes < predicted.workerBytes);
    await engine.dispose();
  });
});
