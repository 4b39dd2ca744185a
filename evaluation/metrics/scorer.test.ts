import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accuracy } from './classification.ts';
import { chrf } from './chrf.ts';
import { spearmanCorrcoef } from './correlation.ts';
import { rankClassification, type RankTarget } from './ranking.ts';
import { rouge } from './rouge.ts';

const targets = ['the cat sat', 'a dog ran', 'we saw it'];
const predictions = ['the cat sat', 'a dog sat', 'they saw it'];

test('a selection of examples scores as these examples alone, repeated ones included', () => {
  const pick = <Value>(values: readonly Value[]): Value[] => [values[2]!, values[0]!, values[2]!];
  const references = targets.map((text) => [text]);
  assert.deepEqual(
    chrf()(references, predictions).score([2, 0, 2]),
    chrf()(pick(references), pick(predictions)).score(),
  );
  assert.deepEqual(rouge()(targets, predictions).score([2, 0, 2]), rouge()(pick(targets), pick(predictions)).score());
  const [x, y] = [
    [1, 5, 2],
    [3, 4, 9],
  ];
  assert.deepEqual(spearmanCorrcoef(x, y).score([0, 1, 1]), spearmanCorrcoef([1, 5, 5], [3, 4, 4]).score());
});

test('no example gives no figure, and not zero', () => {
  assert.deepEqual(accuracy([], []).score(), { accuracy: NaN });
});

test('targets and predictions of unequal number are refused', () => {
  assert.throws(() => accuracy([1, 0], [1]), {
    code: 'METRIC_INPUT_INVALID',
    message: /found 2 targets and 1 predictions/u,
  });
});

test('a rank classification with a missing or a repeated label is refused', () => {
  const row = (example: number, label: number): RankTarget => ({
    example,
    label,
    isCorrect: label === 0,
    weight: 1,
    targetLength: 2,
  });
  assert.throws(() => rankClassification(2, false)([row(0, 0), row(0, 0)], [-1, -2]), {
    code: 'METRIC_INPUT_INVALID',
    message: /twice/u,
  });
  assert.throws(() => rankClassification(2, false)([row(0, 0), row(1, 0), row(1, 1)], [-1, -2, -3]), {
    code: 'METRIC_INPUT_INVALID',
    message: /found 1 for example 0/u,
  });
});
