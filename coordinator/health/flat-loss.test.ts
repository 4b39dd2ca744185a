import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FLAT_STEPS, FlatLossWatch } from './flat-loss.ts';

/** Steps at which the watch warns. */
function warningsFor(losses: readonly number[]): number[] {
  const steps: number[] = [];
  const watch = new FlatLossWatch(4096, { warn: (fields: object) => steps.push((fields as { step: number }).step) });
  losses.forEach((loss, at) => {
    watch.onCommit({ step: at + 1, loss });
  });
  return steps;
}

const UNIFORM = Math.log(4096);
const flat = (count: number): number[] => new Array<number>(count).fill(UNIFORM);

describe('a loss that stays at ln(vocabulary)', () => {
  test('is a warning after 50 steps, once', () => {
    assert.deepEqual(warningsFor(flat(FLAT_STEPS + 60)), [FLAT_STEPS]);
  });

  test('is no warning before 50 steps, nor with one other loss among them', () => {
    assert.deepEqual(warningsFor(flat(FLAT_STEPS - 1)), []);
    assert.deepEqual(warningsFor([...flat(FLAT_STEPS - 1), 0.98 * UNIFORM, ...flat(FLAT_STEPS - 1)]), []);
  });

  test('is a warning again in a new series', () => {
    assert.deepEqual(warningsFor([...flat(FLAT_STEPS), 3, ...flat(FLAT_STEPS)]), [FLAT_STEPS, 2 * FLAT_STEPS + 1]);
  });

  test('is no warning for a NaN', () => {
    assert.deepEqual(warningsFor(new Array<number>(100).fill(NaN)), []);
  });
});
