import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import { RepeatedDivergence } from './penalties.ts';

describe('RepeatedDivergence', () => {
  const error = new TrainerError('GRADIENT_DIVERGED', 'step 5: a on rank 0; b on rank 1');

  test('ends the run at the third time in a row', () => {
    const rule = new RepeatedDivergence();
    assert.deepEqual([rule.add(4, error), rule.add(4, error)], [undefined, undefined]);
    const last = rule.add(4, error);
    assert.equal(last?.code, 'GRADIENT_DIVERGED');
    assert.match(last.message, /^3 times in a row .*: step 5: a on rank 0/u);
  });

  test('a step that was committed meanwhile starts the count anew', () => {
    const rule = new RepeatedDivergence();
    for (const step of [4, 4, 5, 5]) assert.equal(rule.add(step, error), undefined);
  });
});
