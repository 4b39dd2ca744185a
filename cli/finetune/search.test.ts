import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { bestRun, describeSearch, parseSearch, type SearchedRun } from './search.ts';

/** A run whose best validation has this accuracy and loss. */
const run = (rate: number, metric: string, accuracy: number, loss: number): SearchedRun => ({
  rate,
  runDir: `runs/lr-${rate}`,
  best: {
    step: 10,
    split: 'validation',
    metric,
    score: metric === 'loss' ? loss : accuracy,
    tasks: { a: { numExamples: 4, loss, metrics: { accuracy: { accuracy } } } },
  },
});

describe('the search over learning rates', () => {
  test('a search is a list of distinct rates above 0', () => {
    assert.deepEqual(parseSearch('lr=1e-3,1e-4'), [0.001, 0.0001]);
    for (const text of ['lr=', 'lr=0', 'lr=-1', 'lr=1,1', 'lr=x', 'rate=1', 'lr=1,,2', ''])
      assert.equal(parseSearch(text), undefined, text);
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.double({ min: 1e-9, max: 1, noNaN: true }), { minLength: 1, maxLength: 5 }),
        (rates) => {
          assert.deepEqual(parseSearch(`lr=${rates.join(',')}`), rates);
        },
      ),
    );
  });

  test('the best run has the highest score, or the lowest loss; of equal ones it is the first', () => {
    const rates = (metric: string) => [run(1, metric, 50, 3), run(2, metric, 70, 4), run(3, metric, 70, 2)];
    assert.equal(bestRun(rates('mean'))?.rate, 2);
    assert.equal(bestRun(rates('loss'))?.rate, 3);
    assert.match(describeSearch(rates('loss')), /best by validation: learning rate 3, step 10, runs\/lr-3\n$/u);
  });

  test('runs without a score are listed, and none of them is the best', () => {
    const without: SearchedRun = { rate: 1, runDir: 'runs/lr-1', best: undefined };
    assert.equal(bestRun([without]), undefined);
    assert.match(describeSearch([without]), /no run has a validation score\n$/u);
    assert.equal(bestRun([without, run(2, 'mean', 1, 1)])?.rate, 2);
  });
});
