import assert from 'node:assert/strict';
import { test } from 'node:test';
import { accuracy, matthewsCorrcoef } from './classification.ts';
import { bleu } from './bleu.ts';
import { multiRc } from './question-answering.ts';
import { standardErrors } from './standard-error.ts';

const labels = Array.from({ length: 400 }, (_, at) => at % 2);
const guesses = labels.map((label, at) => (at % 5 === 0 ? 1 - label : label));

test('the error of an accuracy is that of a mean of independent trials', () => {
  const error = standardErrors(accuracy(labels, guesses))['accuracy']!;
  const expected = 100 * Math.sqrt((0.8 * 0.2) / labels.length);
  assert.ok(Math.abs(error - expected) < 0.08 * expected, `${error} is not near ${expected}`);
});

test('the same examples give the same bytes', () => {
  assert.deepEqual(standardErrors(accuracy(labels, guesses)), standardErrors(accuracy(labels, guesses)));
});

test('groups are drawn whole: two answers of one question give no more certainty than one', () => {
  const questions = Array.from({ length: 200 }, (_, at) => at);
  const value = (question: number): number => (question % 3 === 0 ? 0 : 1);
  const scorer = (copies: number) => {
    const answers = questions.flatMap((group) =>
      Array.from({ length: copies }, () => ({ group, value: value(group) })),
    );
    return multiRc(
      answers.map(({ group }) => ({ group, value: 1 })),
      answers,
    );
  };
  const [once, twice] = [standardErrors(scorer(1)), standardErrors(scorer(2))];
  assert.equal(scorer(2).numUnits, 200);
  assert.deepEqual(twice, once);
});

test('a single example has no error, and a corpus metric has one', () => {
  assert.deepEqual(standardErrors(accuracy([1], [1])), { accuracy: NaN });
  const texts = [
    'the cat sat on the mat',
    'a dog ran over the hill',
    'the sun rose late today',
    'we saw no ships at all',
  ];
  const scores = standardErrors(bleu()(texts.map((text) => [text]), texts.map((text, at) => (at % 2 === 0 ? text : 'the mat')))); // prettier-ignore
  assert.ok(scores['bleu']! > 0);
  assert.ok(standardErrors(matthewsCorrcoef(labels, guesses))['matthews_corrcoef']! > 0);
});
