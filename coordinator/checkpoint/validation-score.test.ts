import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { bestSteps, scoreOf, type ValidatedTasks } from './validation-score.ts';

const TASKS: ValidatedTasks = {
  cola: { numExamples: 8, loss: 0.5, metrics: { matthews_corrcoef: { matthews_corrcoef: 20 } } },
  squad: { numExamples: 8, loss: 1.5, metrics: { squad: { em: 60, f1: 80 } } },
  e2e: {
    numExamples: 8,
    loss: 2.5,
    metrics: {
      gem_bleu: { bleu: 30, precision1: 70, brevity_penalty: 1, prediction_length: 900 },
      gem_rouge: { rouge1: 50, rouge2: 40, rougeL: 44, rougeLsum: 45 },
      ter: { ter: 55 },
    },
  },
  c4: { numExamples: 8, loss: 3.5, metrics: {} },
};

describe('one number for a validation', () => {
  const rows: readonly (readonly [string, number | undefined, boolean])[] = [
    ['loss', 2, true],
    ['mean', (20 + 70 + (30 + 50 + 40 + 44 + 45) / 5) / 3, false],
    ['gem', (30 + 50 + 40 + 44) / 4, false],
    ['squad', 70, false],
    ['squad/squad', 70, false],
    ['squad/squad/em', 60, false],
    ['squad/loss', 1.5, true],
    ['e2e/ter/ter', 55, true],
    ['e2e/gem_bleu', 30, false],
    ['c4', undefined, false],
    ['squad/rouge', undefined, false],
    ['nli', undefined, false],
  ];
  for (const [metric, value, isLowBest] of rows)
    test(`${metric}: ${value ?? 'not defined'}`, () => {
      assert.deepEqual(scoreOf(metric, TASKS), value === undefined ? undefined : { value, isLowBest });
    });

  test('a score that is not defined is skipped', () => {
    const squad = { numExamples: 8, loss: null, metrics: { squad: { em: null, f1: 80 } } };
    assert.equal(scoreOf('mean', { squad })?.value, 80);
    assert.equal(scoreOf('loss', { squad }), undefined);
    assert.equal(scoreOf('squad/squad/em', { squad }), undefined);
  });
});

describe('the best validations', () => {
  const validation = (step: number, em: number, settings = 'a') => ({
    step,
    settings,
    tasks: { squad: { numExamples: 8, loss: em, metrics: { squad: { em } } } },
  });

  test('highest first, the earliest of equal ones', () => {
    const validations = [validation(10, 5), validation(20, 9), validation(30, 9), validation(40, 7)];
    const steps = (metric: string) => bestSteps(validations, metric, 3).map(({ step }) => step);
    assert.deepEqual(steps('mean'), [20, 30, 40]);
    assert.deepEqual(steps('loss'), [10, 40, 20]);
  });

  test('validations of other settings are not compared, and the best of each are named', () => {
    const validations = [validation(10, 50), validation(20, 40), validation(30, 9, 'b'), validation(40, 7, 'b')];
    assert.deepEqual(
      bestSteps(validations, 'mean', 1).map(({ step }) => step),
      [30, 10],
    );
  });
});
