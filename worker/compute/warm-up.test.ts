import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkConfig } from '../../shared/config/load-config.ts';
import { createEngine } from '../engine-choice/create-engine.ts';
import type { Batch, Engine } from '../engine/engine.ts';
import { initialiseParameters } from '../model/initialise.ts';
import { numElements } from '../model/parameters.ts';
import { warmUp } from './warm-up.ts';

const CONFIG = checkConfig(
  {
    name: 'warm',
    model: { vocabSize: 64, dModel: 16, dKv: 8, dFf: 32, numLayers: 1, numDecoderLayers: 1, numHeads: 2 },
    featureLengths: { inputs: 16, targets: 8 },
    mixture: { path: '/mixture.yaml' },
    training: { steps: 1, rowsPerStep: 4, numLanes: 2, microbatchRows: 2 },
    schedule: { kind: 'constant' },
  },
  'the test',
);

const open = async (): Promise<Engine> =>
  (await createEngine({ name: 'wasm', config: CONFIG.model, zLoss: 1e-4 })).engine;

/** Two steps from the seed. @returns parameters and state of the optimizer */
async function train(engine: Engine, batch: Batch): Promise<Float32Array[]> {
  await engine.load(initialiseParameters(engine.parameters, 3), 'zero');
  for (const step of [0, 1]) {
    const gradients: Float32Array[] = [];
    await engine.step(batch, (parameter, values) => {
      gradients[parameter] = values.slice();
    });
    await engine.apply(gradients, { step, learningRate: 0.01, gradientScale: 0.1 });
  }
  const empty = (specs: readonly { name: string; shape: readonly number[] }[]) =>
    new Map(specs.map(({ name, shape }) => [name, new Float32Array(numElements(shape))]));
  const [parameters, slots] = [empty(engine.parameters), empty(engine.optimizerSlots)];
  await engine.readBack(parameters, slots);
  return [...parameters.values(), ...slots.values()];
}

describe('an engine warmed up before its first step', () => {
  test('it takes a batch of the shape of the run, with words, padding and losses, and one update', async () => {
    const engine = await open();
    const batches: Batch[] = [];
    const step: Engine['step'] = (batch, onGradient) => {
      batches.push(batch);
      return engine.step(batch, onGradient);
    };
    let numUpdates = 0;
    const apply: Engine['apply'] = (gradients, update) => {
      numUpdates++;
      return engine.apply(gradients, update);
    };
    await warmUp({ parameters: engine.parameters, load: engine.load.bind(engine), step, apply }, CONFIG);
    assert.equal(numUpdates, 1);
    const [batch] = batches;
    assert.ok(batch !== undefined && batches.length === 1);
    assert.deepEqual([batch.numRows, batch.inputsLength, batch.targetsLength], [2, 16, 8]);
    assert.deepEqual([...new Set(batch.encoderSegmentIds)], [1, 2, 0]);
    assert.deepEqual([...batch.decoderSegmentIds.subarray(0, 8)], [1, 1, 1, 1, 2, 2, 0, 0]);
    assert.ok(new Set(batch.encoderInputIds).size > 4);
    await engine.dispose();
  });

  test('the run that follows has the bits of one on a fresh engine', async () => {
    const [fresh, warm] = [await open(), await open()];
    let batch: Batch | undefined;
    const step: Engine['step'] = (given, onGradient) => warm.step((batch = given), onGradient);
    await warmUp(
      { parameters: warm.parameters, load: warm.load.bind(warm), step, apply: warm.apply.bind(warm) },
      CONFIG,
    );
    assert.deepEqual(await train(warm, batch!), await train(fresh, batch!));
    await Promise.all([fresh.dispose(), warm.dispose()]);
  });
});
