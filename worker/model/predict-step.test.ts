import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { modelConfigSchema } from '../../shared/model-config.ts';
import { predictStep } from './predict-step.ts';
import { stepFlops } from './step-flops.ts';

const CONFIG = modelConfigSchema.parse({});
const EAGER = { optimizer: 'adafactor', retention: 'eager' } as const;
const SHAPE = { numRows: 4, inputsLength: 256, targetsLength: 64 };
const RATES = { flopsPerSecond: 1e11, elementsPerSecond: 1e9, operationSeconds: 70e-6 };

describe('prediction of a step', () => {
  test('with free elements and operations it is the matrix products alone', () => {
    const { microbatchMs } = predictStep(
      CONFIG,
      SHAPE,
      { flopsPerSecond: 1e11, elementsPerSecond: Infinity, operationSeconds: 0 },
      EAGER,
    );
    assert.ok(Math.abs(microbatchMs / ((1000 * stepFlops(CONFIG, SHAPE)) / 1e11) - 1) < 1e-9);
  });

  test('a recorded graph does not pay for each call', () => {
    const eager = predictStep(CONFIG, SHAPE, RATES, EAGER);
    const recorded = predictStep(CONFIG, SHAPE, RATES, { ...EAGER, retention: 'recorded' });
    // 165 + 8 · 150 + 8 · 236 operations of the pass.
    assert.ok(Math.abs(eager.microbatchMs - recorded.microbatchMs - 3253 * 0.067) < 1e-6);
    assert.ok(recorded.updateMs < eager.updateMs);
  });

  test('more rows and slower kernels never make it shorter; the update does not depend on the rows', () => {
    const rate = fc.double({ min: 1e6, max: 1e15, noNaN: true });
    fc.assert(
      fc.property(rate, rate, fc.integer({ min: 1, max: 64 }), (flopsPerSecond, elementsPerSecond, numRows) => {
        const rates = { flopsPerSecond, elementsPerSecond, operationSeconds: 1e-5 };
        const one = predictStep(CONFIG, { ...SHAPE, numRows }, rates, EAGER);
        const more = predictStep(CONFIG, { ...SHAPE, numRows: numRows + 1 }, rates, EAGER);
        const slower = predictStep(
          CONFIG,
          { ...SHAPE, numRows },
          { ...rates, flopsPerSecond: flopsPerSecond / 2 },
          EAGER,
        );
        assert.ok(more.microbatchMs > one.microbatchMs && slower.microbatchMs > one.microbatchMs);
        assert.equal(more.updateMs, one.updateMs);
      }),
      { numRuns: 50 },
    );
  });

  test('AdamW takes longer than Adafactor, and the passes take as long', () => {
    const [adafactor, adamw] = (['adafactor', 'adamw'] as const).map((optimizer) =>
      predictStep(CONFIG, SHAPE, RATES, { ...EAGER, optimizer }),
    );
    assert.equal(adamw!.microbatchMs, adafactor!.microbatchMs);
    assert.ok(adamw!.updateMs > adafactor!.updateMs);
  });
});
