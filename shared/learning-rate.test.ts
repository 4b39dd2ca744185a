import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { learningRate, scheduleSchema } from './learning-rate.ts';

describe('learning rate', () => {
  test('the default schedule is 0.01 up to step 10,000 and 0.001 at step 1,000,000', () => {
    const schedule = scheduleSchema.parse({ kind: 'inverse-square-root' });
    for (const step of [0, 1, 9_999, 10_000]) assert.equal(learningRate(schedule, step), 0.01);
    assert.ok(learningRate(schedule, 10_001) < 0.01);
    assert.equal(learningRate(schedule, 1_000_000), 0.001);
  });

  test('scale multiplies the rate, and warmupSteps is the last step of the constant part', () => {
    const schedule = scheduleSchema.parse({ kind: 'inverse-square-root', warmupSteps: 100, scale: 0.5 });
    assert.equal(learningRate(schedule, 0), 0.05);
    assert.equal(learningRate(schedule, 400), 0.025);
  });

  test('constant is constant, and other kinds or values are refused', () => {
    const schedule = scheduleSchema.parse({ kind: 'constant', value: 2e-3 });
    assert.deepEqual([learningRate(schedule, 0), learningRate(schedule, 1e6)], [2e-3, 2e-3]);
    for (const bad of [{ kind: 'cosine' }, { kind: 'constant', value: 0 }, { kind: 'constant', warmupSteps: 3 }])
      assert.equal(scheduleSchema.safeParse(bad).success, false);
  });
});
