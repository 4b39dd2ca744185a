import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { findEarlyStop, findMetricProblem, type MeasuredSet } from './early-stop.ts';

/** A validation each 10 steps with these losses and accuracies; null: not defined. */
function validationsOf(scores: readonly (number | null)[], everySteps = 10) {
  return scores.map((score, at) => ({
    step: (at + 1) * everySteps,
    tasks: { a: { numExamples: 4, loss: score, metrics: { accuracy: { accuracy: score } } } },
  }));
}

const rule = (patience: number, metric = 'mean') => ({ metric, patience, everySteps: 10 });
const score = fc.option(fc.integer({ min: 0, max: 5 }), { freq: 8 });

describe('a run ends early', () => {
  const rows: readonly (readonly [string, (number | null)[], number, number | undefined, number?])[] = [
    ['while scores grow it goes on', [1, 2, 3, 4], 1, undefined],
    ['after one validation that is no better', [1, 2, 2], 1, 30, 20],
    ['a better one begins the count again', [3, 2, 4, 3, 3], 2, 50, 30],
    ['at the first time, whatever follows', [3, 2, 1, 9], 2, 30, 10],
    ['not before the patience is over', [3, 2], 2, undefined],
    ['scores that are not defined are no improvement', [1, null, null], 2, 30, 10],
    ['without any score it goes on', [null, null, null], 1, undefined],
    ['without validations it goes on', [], 1, undefined],
  ];
  for (const [name, scores, patience, step, bestStep] of rows)
    test(`${name}: ${JSON.stringify(scores)}, patience ${patience}`, () => {
      const stop = findEarlyStop(validationsOf(scores), rule(patience));
      assert.deepEqual([stop?.step, stop?.bestStep], [step, bestStep]);
    });

  test('of a loss the lowest is best, and the reason names metric, score, steps and patience', () => {
    const stop = findEarlyStop(validationsOf([3, 2, 2.5, 2]), rule(2, 'loss'));
    assert.equal(stop?.reason, 'no better loss than 2.0000 of step 20 in 2 validations up to step 40');
    assert.equal(findEarlyStop(validationsOf([3, 2, 1]), rule(1, 'loss')), undefined);
  });

  test('the last validation of a shorter run, at no multiple, does not count', () => {
    const [first, ...others] = validationsOf([3, 4, 2, 2]);
    const shorter = { ...validationsOf([1])[0]!, step: 15 };
    assert.deepEqual(findEarlyStop([first!, shorter, ...others], rule(2)), findEarlyStop([first!, ...others], rule(2)));
  });

  test('validations after the decision do not change it, and none before it decides', () => {
    fc.assert(
      fc.property(fc.array(score, { maxLength: 12 }), fc.integer({ min: 1, max: 4 }), (scores, patience) => {
        const all = validationsOf(scores);
        const stop = findEarlyStop(all, rule(patience));
        for (let count = 0; count <= all.length; count++) {
          const known = findEarlyStop(all.slice(0, count), rule(patience));
          assert.deepEqual(known, stop !== undefined && stop.step <= count * 10 ? stop : undefined);
        }
        const patient = findEarlyStop(all, rule(patience + 1));
        assert.ok(patient === undefined || (stop !== undefined && stop.step < patient.step));
      }),
    );
  });
});

describe('the metric to stop by', () => {
  const SETS: readonly MeasuredSet[] = [
    { name: 'cola', evaluation: { metrics: ['matthews_corrcoef'] } },
    { name: 'e2e', evaluation: { metrics: ['gem_bleu', 'gem_rouge'] } },
    { name: 'c4' },
  ];
  for (const metric of ['loss', 'mean', 'gem', 'cola', 'c4/loss', 'cola/loss', 'e2e/gem_bleu', 'e2e/gem_bleu/bleu'])
    test(`${metric} is measured`, () => {
      assert.equal(findMetricProblem(metric, SETS), undefined);
    });
  for (const [metric, sets, problem] of [
    ['mean', [{ name: 'c4' }], /expected loss, got mean/u],
    ['gem', SETS.slice(0, 1), /gem_bleu and gem_rouge for gem, found none/u],
    ['colla', SETS, /one of the evaluated sets \(cola, e2e, c4\), got colla/u],
    ['cola/accuracy', SETS, /expected one of cola\/loss, cola\/matthews_corrcoef, got cola\/accuracy/u],
    ['c4', SETS, /expected one of c4\/loss, got c4/u],
  ] as const)
    test(`${metric} is not: ${String(problem)}`, () => {
      assert.match(findMetricProblem(metric, sets) ?? '', problem);
    });
});
