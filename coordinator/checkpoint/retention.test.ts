import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { planRetention } from './retention.ts';

const stepsOf = (entries: readonly { readonly step: number }[]) => entries.map(({ step }) => step);

describe('retention', () => {
  const rows: readonly (readonly [string, number[], number, number | undefined, [number, string][], number[]])[] = [
    ['no checkpoint', [], 3, undefined, [], []],
    ['fewer than the newest k', [10, 20], 3, undefined, [], []],
    ['the oldest goes', [30, 10, 40, 20], 3, undefined, [], [10]],
    ['every n-th stays', [5, 10, 15, 20, 25, 30], 2, 10, [], [5, 15]],
    ['what is in use stays', [5, 15, 25, 35], 1, 10, [[15, 'resumed from it']], [5, 25]],
    ['step 0 is a multiple of everything', [0, 3, 6], 1, 10, [], [3]],
  ];
  for (const [name, steps, keepLast, keepEvery, inUse, removed] of rows)
    test(name, () => {
      const plan = planRetention(
        steps,
        { keepLast, ...(keepEvery === undefined ? {} : { keepEvery }) },
        new Map(inUse),
      );
      assert.deepEqual(stepsOf(plan.remove), removed);
      assert.deepEqual(
        [...stepsOf(plan.keep), ...removed].sort((a, b) => a - b),
        [...steps].sort((a, b) => a - b),
      );
    });

  test('each entry says why', () => {
    const plan = planRetention([5, 10, 15, 20], { keepLast: 1, keepEvery: 10 }, new Map([[5, 'resumed from it']]));
    assert.deepEqual(plan.keep, [
      { step: 5, reason: 'resumed from it' },
      { step: 10, reason: 'a multiple of 10' },
      { step: 20, reason: 'one of the newest 1' },
    ]);
    assert.deepEqual(plan.remove, [{ step: 15, reason: 'older than the newest 1 and no multiple of 10' }]);
  });

  const validated = (step: number, accuracy: number | null, settings = 'a') => ({
    step,
    settings,
    tasks: { t: { numExamples: 4, loss: 1, metrics: { accuracy: { accuracy } } } },
  });

  test('the best by a validation metric stay; a checkpoint that is gone takes no place', () => {
    const validations = [
      validated(5, 90),
      validated(10, 40),
      validated(15, 60),
      validated(20, 99),
      validated(25, null),
    ];
    const plan = planRetention([5, 10, 15, 25, 30], {
      keepLast: 1,
      keepBest: { metric: 'mean', count: 2, validations },
    });
    assert.deepEqual(plan.keep, [
      { step: 5, reason: 'one of the best 2 by mean (90)' },
      { step: 15, reason: 'one of the best 2 by mean (60)' },
      { step: 30, reason: 'one of the newest 1' },
    ]);
    const reason = 'older than the newest 1 and not one of the best 2 by mean';
    assert.deepEqual(
      plan.remove,
      [10, 25].map((step) => ({ step, reason })),
    );
  });

  test('whatever else is kept or removed, the best n by a validation metric are never removed', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 30 }),
        fc.array(fc.tuple(fc.integer({ min: 1, max: 60 }), fc.option(fc.integer({ min: 0, max: 4 }))), {
          maxLength: 40,
        }),
        fc.integer({ min: 1, max: 5 }),
        (steps, scores, count) => {
          const known = new Map(scores);
          const validations = [...known].map(([step, score]) => validated(step, score));
          const { remove } = planRetention(steps, { keepLast: 1, keepBest: { metric: 't', count, validations } });
          const there = steps.flatMap((step) => {
            const score = known.get(step);
            return score === undefined || score === null ? [] : [{ step, score }];
          });
          const best = there.sort((a, b) => b.score - a.score || a.step - b.step).slice(0, count);
          for (const { step } of best) assert.ok(!stepsOf(remove).includes(step));
        },
      ),
    );
  });

  test('keepLast 0 is refused', () => {
    assert.throws(() => planRetention([1], { keepLast: 0 }), { code: 'INTERNAL', message: /keepLast 0/ });
  });

  test('the newest, the multiples and those in use stay; all else goes; a second look removes nothing more', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.nat(500), { maxLength: 40 }),
        fc.integer({ min: 1, max: 6 }),
        fc.option(fc.integer({ min: 1, max: 50 }), { nil: undefined }),
        fc.array(fc.nat(500), { maxLength: 4 }),
        (steps, keepLast, keepEvery, used) => {
          const options = { keepLast, ...(keepEvery === undefined ? {} : { keepEvery }) };
          const inUse = new Map(used.map((step) => [step, 'in use']));
          const { keep, remove } = planRetention(steps, options, inUse);
          const newest = [...steps].sort((a, b) => b - a).slice(0, keepLast);
          const mustStay = steps.filter(
            (step) =>
              newest.includes(step) || used.includes(step) || (keepEvery !== undefined && step % keepEvery === 0),
          );
          assert.deepEqual(new Set(stepsOf(keep)), new Set(mustStay));
          assert.equal(keep.length + remove.length, steps.length);
          assert.deepEqual(planRetention(stepsOf(keep), options, inUse).remove, []);
        },
      ),
      { numRuns: 300 },
    );
  });
});
