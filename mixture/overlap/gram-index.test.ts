import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { GramIndex, type GramLengths } from './gram-index.ts';
import { textWords } from './text-words.ts';

function matchesOf(documents: readonly string[], text: string, lengths?: GramLengths): number[] {
  const index = new GramIndex(lengths);
  for (const [i, document] of documents.entries()) index.add(i, textWords(document));
  const found = new Set<number>();
  index.search(textWords(text), (i) => found.add(i));
  return [...found].sort((a, b) => a - b);
}

const THIRTEEN = 'in the beginning god created the heaven and the earth and the earth';

describe('words of a text', () => {
  test('case, punctuation and the form of a letter do not count', () => {
    assert.deepEqual(textWords('“In the BEGINNING,”  he said—2.5 ﬁne caf\u0065\u0301s; don’t'), [
      ...['in', 'the', 'beginning', 'he', 'said', '2', '5', 'fine', 'cafés', 'don', 't'],
    ]);
    assert.deepEqual(textWords(' …!\n'), []);
    assert.deepEqual(textWords('Y dijo Dios: Sea la luz'), ['y', 'dijo', 'dios', 'sea', 'la', 'luz']);
  });
});

describe('index of grams', () => {
  test('13 words in a row are found anywhere in a text, 12 are not', () => {
    const document = `first ${THIRTEEN} last`;
    assert.deepEqual(matchesOf([document], `x y ${THIRTEEN.toUpperCase()}, z`), [0]);
    const twelve = THIRTEEN.split(' ').slice(1).join(' ');
    assert.deepEqual(matchesOf([document], `x y ${twelve} z`), []);
    assert.deepEqual(matchesOf([THIRTEEN], THIRTEEN.replace('heaven', 'heavens')), []);
  });

  test('a short document is compared as a whole, if it has the words of the shortest gram', () => {
    const lengths = { longest: 13, shortest: 4 };
    assert.deepEqual(
      matchesOf(['let there be light', 'be light'], 'and God said, Let there be light: and', lengths),
      [0],
    );
    assert.deepEqual(matchesOf(['let there be light'], 'let there be lights', lengths), []);
    assert.deepEqual(matchesOf(['let there be light'], 'let there be light'), []);
  });

  test('all documents with a gram are found', () => {
    assert.deepEqual(matchesOf([`a ${THIRTEEN}`, 'other words', `${THIRTEEN} b`], `c ${THIRTEEN} d`), [0, 2]);
  });

  test('it finds what a comparison of all runs of words finds, for any texts', () => {
    const text = fc.array(fc.constantFrom('a', 'b', 'c'), { maxLength: 40 }).map((words) => words.join(' '));
    fc.assert(
      fc.property(
        fc.array(text, { maxLength: 6 }),
        text,
        fc.integer({ min: 1, max: 6 }),
        (documents, searched, longest) => {
          const lengths = { longest, shortest: 1 };
          const expected = documents.flatMap((document, i) => {
            const words = textWords(document);
            const length = Math.min(longest, words.length);
            const runs = words.slice(length - 1).map((_, at) => words.slice(at, at + length).join(' '));
            return length > 0 && runs.some((run) => ` ${searched} `.includes(` ${run} `)) ? [i] : [];
          });
          assert.deepEqual(matchesOf(documents, searched, lengths), expected);
        },
      ),
      { numRuns: 300 },
    );
  });

  test('a hundred thousand grams are told apart, and their bytes are counted', () => {
    const index = new GramIndex();
    const words = Array.from({ length: 100_012 }, (_, i) => `w${i}`);
    index.add(7, words);
    assert.equal(index.numGrams, 100_000);
    assert.ok(index.bytes > 100_000 * 20 && index.bytes < 10e6, `${index.bytes} B`);
    let found = 0;
    index.search(words, (document) => (found += Number(document === 7)));
    assert.equal(found, 100_000);
    index.search(
      words.map((word) => `${word}x`),
      () => assert.fail('a gram that was not added'),
    );
  });
});
