import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { findScheduleProblems, learningRate, scheduleSchema } from './learning-rate.ts';

interface GoldenSchedule {
  readonly warmup: number;
  readonly total: number;
  readonly peak: number;
  readonly floor: number;
  readonly values: readonly number[];
}
const golden = JSON.parse(readFileSync('golden/optimizers/optimizers.json', 'utf8')) as {
  readonly schedules: { readonly t: readonly number[] } & Readonly<Record<string, GoldenSchedule>>;
};

/** bench/peers/nanot5_schedule.py: by PyTorch's LinearLR and CosineAnnealingLR, with nanoT5's settings. */
const NANOT5_RATES = [
  [0, 0.01],
  [1, 0.010001],
  [2500, 0.012500000000000119],
  [9999, 0.019998999999999878],
  [10000, 0.02],
  [10001, 0.01999999998400798],
  [37768, 0.01000499999999997],
  [60000, 0.0004961197748259659],
  [65535, 1.0000015992021298e-5],
  [65536, 1e-5],
] as const;

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

  for (const [name, kind] of [
    ['cosine', 'cosine'],
    ['linear', 'linear'],
    ['inverse_square_root', 'inverse-square-root'],
  ] as const)
    test(`${kind} follows the golden values`, () => {
      const { warmup: warmupSteps, total: totalSteps, peak, floor, values } = golden.schedules[name]!;
      const settings = kind === 'inverse-square-root' ? { warmupSteps } : { warmupSteps, totalSteps, peak, floor };
      const schedule = scheduleSchema.parse({ kind, ...settings });
      const steps = golden.schedules.t;
      assert.equal(steps.length, values.length);
      for (const [i, step] of steps.entries()) {
        const rate = learningRate(schedule, step);
        assert.ok(Math.abs(rate - values[i]!) <= 1e-12 * values[i]!, `step ${step}: ${rate}, expected ${values[i]}`);
      }
    });

  test("nanoT5's schedule starts at half of its peak: PyTorch's rates at steps of the warm-up and after it", () => {
    const schedule = scheduleSchema.parse({
      ...{ kind: 'cosine', warmupSteps: 10_000, warmupFrom: 0.5 },
      ...{ totalSteps: 65_536, peak: 2e-2, floor: 1e-5 },
    });
    for (const [step, rate] of NANOT5_RATES)
      assert.ok(Math.abs(learningRate(schedule, step) - rate) <= 1e-9 * rate, `step ${step}`);
    assert.equal(learningRate(schedule, 70_000), 1e-5);
  });

  test('without a warm-up the first rate is the peak, and the floor stays', () => {
    for (const kind of ['linear', 'cosine'] as const) {
      const schedule = scheduleSchema.parse({ kind, warmupSteps: 0, totalSteps: 10, peak: 4, floor: 1 });
      const rates = Array.from({ length: 14 }, (_, step) => learningRate(schedule, step));
      assert.equal(rates[0], 4);
      assert.equal(rates[5], 2.5);
      assert.deepEqual(rates.slice(10), [1, 1, 1, 1]);
      for (const [step, rate] of rates.slice(1, 11).entries()) assert.ok(rate < rates[step]!, `${kind} ${step}`);
    }
  });

  test('relations that do not hold are named', () => {
    const peaked = { warmupSteps: 5, totalSteps: 5, peak: 1, floor: 2 };
    const found = findScheduleProblems(scheduleSchema.parse({ kind: 'linear', ...peaked }));
    assert.deepEqual(
      found.map(({ setting }) => setting),
      ['totalSteps', 'floor'],
    );
    assert.deepEqual(findScheduleProblems(scheduleSchema.parse({ kind: 'constant' })), []);
  });
});
