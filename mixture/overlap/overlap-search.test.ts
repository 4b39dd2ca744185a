import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { findPrompt, OverlapSearch, type ComparedExample, type Prompt } from './overlap-search.ts';

const NO_PROMPT: Prompt = { beginning: [], grams: new Set() };

function pair(inputs: string, targets: string): ComparedExample {
  return { inputs, texts: [inputs, targets] };
}

/** Thirteen words that no other number gives. */
const words = (name: string): string => Array.from({ length: 13 }, (_, i) => `${name}${i}`).join(' ');

describe('overlap of examples with train splits', () => {
  const search = new OverlapSearch();
  const examples = [
    pair('copy: Short, words.', 'short words'),
    pair(`read: ${words('a')} and more`, 'no'),
    pair('name it', `It is ${words('b')}`),
    { texts: [`a document with ${words('c')}`] },
    pair('…', '…'),
  ];
  for (const example of examples) search.add(example, NO_PROMPT);

  test('inputs are the same whatever their case and punctuation; targets do not count', () => {
    search.startTrainSplit();
    search.compare(pair('Copy – short words', 'other'));
    assert.deepEqual(search.overlap(0, 5), { sameInputs: [0], sharedGrams: [] });
  });

  test('13 words are shared between inputs, targets and documents, in both directions', () => {
    search.startTrainSplit();
    search.compare({ texts: [words('a')] });
    search.compare(pair(`x ${words('b')}`, 'y'));
    search.compare(pair('y', `x ${words('c')} z`));
    assert.deepEqual(search.overlap(0, 5), { sameInputs: [], sharedGrams: [1, 2, 3] });
    assert.deepEqual(search.overlap(2, 5), { sameInputs: [], sharedGrams: [0, 1] }, 'numbers count from the first');
  });

  test('a new train split starts without a match, and texts without words match nothing', () => {
    search.startTrainSplit();
    search.compare(pair('!', '?'));
    search.compare({ texts: [''] });
    assert.deepEqual(search.overlap(0, 5), { sameInputs: [], sharedGrams: [] });
  });

  test('inputs and targets are not joined: 13 words across both are no match', () => {
    search.startTrainSplit();
    const all = words('a').split(' ');
    search.compare(pair(all.slice(0, 7).join(' '), all.slice(7).join(' ')));
    assert.deepEqual(search.overlap(0, 5).sharedGrams, []);
  });
});

describe('prompt of a set', () => {
  test('the first words of most inputs do not count among the 13', () => {
    const examples = Array.from({ length: 30 }, (_, i) => pair(`translate to Spanish: ${words(`q${i}x`)}`, 'sí'));
    const prompt = findPrompt(examples);
    assert.deepEqual(prompt.beginning, ['translate', 'to', 'spanish']);
    const search = new OverlapSearch();
    for (const example of examples) search.add(example, prompt);
    search.startTrainSplit();
    const first = words('q4x').split(' ');
    search.compare(pair(`translate to Spanish: ${first.slice(0, 10).join(' ')} and so on`, 'no'));
    assert.deepEqual(search.overlap(0, 30).sharedGrams, []);
    search.compare(pair(`modernize: ${first.join(' ')}`, 'no'));
    assert.deepEqual(search.overlap(0, 30).sharedGrams, [4]);
    search.compare(pair(`translate to Spanish: ${words('q5x')}`, 'no'));
    assert.deepEqual(search.overlap(0, 30), { sameInputs: [5], sharedGrams: [4, 5] });
  });

  const prompt = `answer ${words('p')} question`;
  const examples = Array.from({ length: 40 }, (_, i) => pair(`${prompt} ${words(`q${i}x`)}`, 'yes'));

  test('words that most examples have in common are no leak, and those of one example are', () => {
    const search = new OverlapSearch();
    for (const example of examples) search.add(example, findPrompt(examples));
    search.startTrainSplit();
    search.compare(pair(`${prompt} something else`, 'no'));
    assert.deepEqual(search.overlap(0, 40).sharedGrams, []);
    search.compare(pair(`other ${words('q7x')}`, 'no'));
    assert.deepEqual(search.overlap(0, 40).sharedGrams, [7]);
  });

  test('a passage of ten examples of forty, or of all of a small set, is no prompt', () => {
    const passage = examples.map((example, i) => (i < 10 ? pair(`${words('s')} ${i}`, 'yes') : example));
    assert.deepEqual(findPrompt(passage.slice(0, 10)), NO_PROMPT);
    const search = new OverlapSearch();
    for (const example of passage) search.add(example, findPrompt(passage));
    search.startTrainSplit();
    search.compare({ texts: [words('s')] });
    assert.deepEqual(search.overlap(0, 40).sharedGrams, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });
});
