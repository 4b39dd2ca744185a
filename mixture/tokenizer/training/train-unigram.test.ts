import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { buildByteTrie } from '../byte-trie.ts';
import { readGoldenLines } from '../golden-lines.fixture.ts';
import { loadNmtNfkc } from '../nmt-nfkc.ts';
import { serializeSentencePieceModel } from '../sentencepiece-file.ts';
import { createTokenizer } from '../tokenizer.ts';
import { ANY_SCRIPT, findSeedPieces, scriptOf } from './seed-pieces.ts';
import { trainUnigram, type TrainingPass } from './train-unigram.ts';
import { WordCounter } from './word-counts.ts';
import { WordLattice } from './word-lattice.ts';

const texts = readGoldenLines().map(({ text }) => text);
const train = (input: readonly string[], vocabSize = 600): Uint8Array =>
  serializeSentencePieceModel(trainUnigram(input, { vocabSize }));
const trained = train(texts);

/** Without the charsmap, whose loading takes longer than everything else here. */
const rules = { ...loadNmtNfkc(), charsmap: new Uint8Array(0) };

function wordsOf(input: readonly string[], coverage = 1): ReturnType<WordCounter['finish']> {
  const counter = new WordCounter(rules);
  for (const text of input) counter.add(text);
  return counter.finish(coverage);
}

describe('a trained model', () => {
  test('has the requested size, pad 0, EOS 1, unk 2, then pieces by descending score', () => {
    const model = trainUnigram(texts, { vocabSize: 600 });
    assert.equal(model.pieces.length, 600);
    assert.deepEqual(
      model.pieces.slice(0, 3).map(({ text }) => text),
      ['<pad>', '</s>', '<unk>'],
    );
    const scores = model.pieces.slice(3).map(({ score }) => score);
    assert.deepEqual(
      scores,
      [...scores].sort((a, b) => b - a),
    );
  });

  test('has the same bytes for the same texts in any order', () => {
    assert.deepEqual(train(texts), trained);
    assert.deepEqual(train([...texts].reverse()), trained);
    assert.ok(Buffer.compare(train(texts.slice(100)), trained) !== 0);
  });

  test('encodes its own text with few unknown characters and fewer tokens than characters', () => {
    const tokenizer = createTokenizer(trained, 'trained');
    let numTokens = 0;
    let numUnknown = 0;
    let numCharacters = 0;
    for (const text of texts) {
      const ids = tokenizer.encode(text);
      numTokens += ids.length;
      numUnknown += ids.filter((id) => id === 2).length;
      numCharacters += text.length;
    }
    assert.ok(numTokens < 0.6 * numCharacters, `${numTokens} tokens of ${numCharacters} characters`);
    assert.ok(numUnknown < numCharacters / 500, `${numUnknown} unknown`);
    assert.equal(tokenizer.decode(tokenizer.encode('the value of a list')), 'the value of a list');
  });

  test('learns repeated words, and no piece mixes scripts or crosses a space', () => {
    const input = Array.from({ length: 50 }, (_, i) => `gradient descent F1 ${['alpha', 'beta', 'gamma'][i % 3]!}${i}`);
    const pieces = trainUnigram(input, { vocabSize: 36 })
      .pieces.slice(3)
      .map(({ text }) => text);
    assert.ok(pieces.includes('\u2581gradient') && pieces.includes('\u2581descent'));
    for (const piece of pieces) assert.ok(!/.\u2581|[a-zA-Z]\d|\d[a-zA-Z]/.test(piece), piece);
  });

  test('shrinks in each pass, to at most 1.1 times the size', () => {
    const passes: TrainingPass[] = [];
    trainUnigram(texts, { vocabSize: 600, onPass: (pass) => passes.push(pass) });
    assert.ok(passes.length > 2);
    for (const [i, { numPieces }] of passes.entries()) if (i > 0) assert.ok(numPieces < passes[i - 1]!.numPieces);
    assert.ok(passes[passes.length - 1]!.numPieces <= 660);
  });
});

describe('training is rejected, and the error says what to do', () => {
  const cases: [string, () => unknown, RegExp][] = [
    ['no text', () => trainUnigram([' ', ''], { vocabSize: 10 }), /no text/],
    ['a size below the characters', () => trainUnigram(['abcdefghij'], { vocabSize: 10 }), /less than the 14 pieces/],
    [
      'a size above what the text yields',
      () => trainUnigram(['ab ab ab'], { vocabSize: 1000 }),
      /yields only \d+ pieces/,
    ],
    ['an invalid size', () => trainUnigram(texts, { vocabSize: 3.5 }), /vocabSize/],
    ['an invalid coverage', () => trainUnigram(texts, { vocabSize: 600, characterCoverage: 0 }), /characterCoverage/],
  ];
  for (const [name, run, message] of cases) {
    test(name, () => assert.throws(run, { code: 'CONFIG_INVALID', message }));
  }
});

describe('words', () => {
  test('are counted, most frequent first; rare characters are replaced', () => {
    const { bytes, offsets, counts, requiredCharacters } = wordsOf(['ab ab a', 'ab é'], 0.9);
    const words = Array.from(counts, (_, i) => Buffer.from(bytes.slice(offsets[i], offsets[i + 1])).toString('latin1'));
    assert.deepEqual(words, [' ab', ' a', ' \xff']);
    assert.deepEqual([...counts], [3, 1, 1]);
    assert.deepEqual(
      requiredCharacters.map((character) => Buffer.from(character).toString()),
      [' ', 'a', 'b'],
    );
  });
});

describe('seed pieces', () => {
  test('are all characters, and all frequent substrings of one script that no longer one replaces', () => {
    const word = fc.string({ unit: fc.constantFrom('a', 'b', '1', 'é'), minLength: 1, maxLength: 7 });
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 12 }), (input) => {
        const words = wordsOf(input);
        const { keys, weights } = findSeedPieces(words, { maxCharacters: 5, maxSeeds: 10_000 });
        const found = new Map(keys.map((key, i) => [Buffer.from(key).toString(), weights[i]!]));
        const counts = new Map<string, number>();
        for (const text of input.map((one) => ` ${one}`)) {
          const isValid = (piece: string): boolean => !(/\d/.test(piece) && /[abé]/.test(piece));
          for (let i = 0; i < text.length; i++) {
            for (let end = i + 1; end <= Math.min(i + 5, text.length); end++) {
              const piece = text.slice(i, end);
              if (isValid(piece)) counts.set(piece, (counts.get(piece) ?? 0) + 1);
            }
          }
        }
        const isCovered = (piece: string): boolean =>
          ['a', 'b', '1', 'é'].some((next) => counts.get(piece + next) === counts.get(piece));
        const expected = [...counts].filter(
          ([piece, count]) => piece.length === 1 || (count >= 2 && !isCovered(piece)),
        );
        assert.deepEqual([...found].sort(), expected.map(([piece, count]) => [piece, count * piece.length]).sort());
      }),
      { numRuns: 200 },
    );
  });

  test('are at most as many as the bound, with the largest weights', () => {
    const words = wordsOf(['abab abab cdcd ef ef']);
    const all = findSeedPieces(words, { maxCharacters: 16, maxSeeds: 100 });
    const some = findSeedPieces(words, { maxCharacters: 16, maxSeeds: 2 });
    assert.equal(some.keys.length, words.requiredCharacters.length + 2);
    assert.deepEqual(some.keys, all.keys.slice(0, some.keys.length));
  });

  test('scripts: kana and Han are one; marks match any; letters, digits and alphabets are distinct', () => {
    assert.equal(scriptOf('漢'), scriptOf('か'));
    assert.equal(scriptOf('ー'), scriptOf('カ'));
    assert.equal(scriptOf('\u0301'), ANY_SCRIPT);
    assert.equal(scriptOf('1'), scriptOf('.'));
    assert.equal(new Set(['a', 'я', 'α', '1', 'ع', '漢', '𒀀'].map(scriptOf)).size, 7);
  });
});

describe('the lattice', () => {
  /** All segmentations of a text into the keys. */
  function segmentations(text: string, keys: readonly string[]): string[][] {
    if (text === '') return [[]];
    return keys
      .filter((key) => text.startsWith(key))
      .flatMap((key) => segmentations(text.slice(key.length), keys).map((rest) => [key, ...rest]));
  }

  test('expected counts and likelihood equal the sums over all segmentations', () => {
    const keys = [' ', 'a', 'b', ' a', 'ab', 'ba', 'aab', ' ab'];
    const scoresArbitrary = fc.array(fc.double({ min: -8, max: -0.1, noNaN: true }), {
      minLength: keys.length,
      maxLength: keys.length,
    });
    fc.assert(
      fc.property(
        scoresArbitrary,
        fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 8 }),
        (scores, word) => {
          const lattice = new WordLattice(
            buildByteTrie(keys.map((key) => Buffer.from(key))),
            Float64Array.from(scores),
          );
          const expected = new Float64Array(keys.length);
          const logLikelihood = lattice.addExpectedCounts(wordsOf([`${word} ${word}`]), expected);
          const scoreOf = (pieces: string[]): number =>
            pieces.reduce((sum, piece) => sum + scores[keys.indexOf(piece)]!, 0);
          const all = segmentations(` ${word}`, keys).map((pieces) => ({ pieces, p: Math.exp(scoreOf(pieces)) }));
          const total = all.reduce((sum, { p }) => sum + p, 0);
          assert.ok(Math.abs(logLikelihood - 2 * Math.log(total)) < 1e-9);
          keys.forEach((key, i) => {
            const count = all.reduce(
              (sum, { pieces, p }) => sum + (pieces.filter((piece) => piece === key).length * p) / total,
              0,
            );
            assert.ok(Math.abs(expected[i]! - 2 * count) < 1e-9, `${key}: ${expected[i]} instead of ${2 * count}`);
          });
        },
      ),
      { numRuns: 100 },
    );
  });

  test('the alternative of a piece is the best segmentation without it; a character has none', () => {
    const keys = ['a', 'b', 'ab', 'abb'].map((key) => Buffer.from(key));
    const lattice = new WordLattice(buildByteTrie(keys), Float64Array.of(-1, -2, -2.5, -3));
    assert.deepEqual(lattice.bestAlternative(keys[3]!), { ids: [1, 2], score: -4.5 });
    assert.equal(lattice.bestAlternative(keys[0]!), undefined);
  });
});
