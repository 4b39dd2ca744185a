import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { checkConfig } from '../../shared/config/load-config.ts';
import { judgePrediction, predictRun, type HostFigures } from './predict-run.ts';

const CONFIG = checkConfig(
  {
    name: 'planned',
    model: {},
    featureLengths: { inputs: 128, targets: 32 },
    mixture: { path: '/mixture.yaml' },
    training: { steps: 10, rowsPerStep: 64, numLanes: 4, microbatchRows: 8 },
    schedule: { kind: 'constant' },
  },
  'the test',
);
const HOST: HostFigures = {
  rates: { flopsPerSecond: 1e11, elementsPerSecond: 1e9, operationSeconds: 1e-5 },
  retention: 'recorded',
  numWorkers: 1,
  numThreads: 1,
  numCores: 4,
  availableBytes: 64 * 2 ** 30,
  engineLimitBytes: undefined,
  diskBytesPerSecond: 1e8,
  loopbackBytesPerSecond: 1e9,
};

describe('prediction of a run', () => {
  test('the worker with the most lanes determines the compute time', () => {
    const one = predictRun(CONFIG, HOST);
    const compute = (numWorkers: number) =>
      predictRun(CONFIG, { ...HOST, numWorkers, numThreads: numWorkers }).computeSeconds;
    assert.equal(one.communicateSeconds, 0);
    assert.ok(Math.abs(compute(2) / one.computeSeconds - 1 / 2) < 1e-9);
    assert.ok(Math.abs(compute(3) / one.computeSeconds - 2 / 4) < 1e-9, 'one of three workers has two of four lanes');
    assert.ok(Math.abs(one.stepSeconds - one.computeSeconds - one.updateSeconds) < 1e-9);
    assert.equal(one.runSeconds, 10 * one.stepSeconds);
  });

  test('more threads than cores are no faster, and gradients take the time of the loopback', () => {
    const four = predictRun(CONFIG, { ...HOST, numWorkers: 4, numThreads: 4 });
    const crowded = predictRun(CONFIG, { ...HOST, numWorkers: 4, numThreads: 8 });
    assert.ok(Math.abs(crowded.computeSeconds / four.computeSeconds - 2) < 1e-9);
    // Each of four sends and receives 2 · 3/4 of 76,961,152 float32.
    assert.ok(Math.abs(four.communicateSeconds - (2 * 3 * 4 * 76_961_152) / 1e9) < 1e-9);
    const bfloat16 = { ...CONFIG, training: { ...CONFIG.training, gradientPrecision: 'bfloat16' as const } };
    const halved = predictRun(bfloat16, { ...HOST, numWorkers: 4, numThreads: 4 });
    assert.equal(halved.communicateSeconds, four.communicateSeconds / 2);
  });

  test('a checkpoint writes parameters and optimizer state at the speed of the disk', () => {
    const { checkpointBytes, checkpointSeconds } = predictRun(CONFIG, HOST);
    assert.ok(checkpointBytes > 4 * 76_961_152 && checkpointBytes < 4.2 * 76_961_152);
    assert.equal(checkpointSeconds, checkpointBytes / 1e8);
  });

  test('a run that fits is ok; otherwise the advice names a microbatch that fits, or another remedy', () => {
    const fit = (host: Partial<HostFigures>) => judgePrediction(CONFIG, { ...HOST, ...host })[1]!;
    assert.equal(fit({}).status, 'ok');
    const { workerBytes } = predictRun(CONFIG, HOST);
    const tight = fit({ availableBytes: workerBytes - 1 });
    assert.equal(tight.status, 'fail');
    assert.match(tight.advice!, /microbatchRows=4 would fit/u);
    assert.match(
      fit({ availableBytes: 2 ** 28 }).advice!,
      /not even one row fits: a smaller preset, a machine with more/u,
    );
    assert.match(fit({ engineLimitBytes: 2 ** 28 }).advice!, /exmix engine install/u);
    assert.match(fit({ availableBytes: 2 ** 28, numWorkers: 2 }).advice!, /fewer workers/u);
  });
});
