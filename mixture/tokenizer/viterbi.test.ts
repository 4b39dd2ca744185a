import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Normalizer } from './normalizer.ts';
import { PieceDecoder } from './piece-decoder.ts';
import type { NormalizerSpec, Piece, UnigramModel } from './unigram-model.ts';
import { UnigramEncoder } from './viterbi.ts';

const RULES: NormalizerSpec = {
  name: 'identity',
  charsmap: new Uint8Array(0),
  addDummyPrefix: true,
  removeExtraWhitespaces: true,
  escapeWhitespaces: true,
};

const SPECIAL: Piece[] = [
  { text: '<pad>', score: 0, kind: 'control' },
  { text: '</s>', score: 0, kind: 'control' },
  { text: '<unk>', score: 0, kind: 'unknown' },
];

function modelOf(
  pieces: Record<string, number>,
  more: Piece[] = [],
  changes: Partial<UnigramModel> = {},
): UnigramModel {
  const normal = Object.entries(pieces).map(([text, score]): Piece => ({ text, score, kind: 'normal' }));
  return {
    pieces: [...SPECIAL, ...normal, ...more],
    normalizer: RULES,
    byteFallback: false,
    unkSurface: ' ? ',
    ...changes,
  };
}

/** The pieces of a text. */
function segment(model: UnigramModel, text: string): string[] {
  const userDefined = model.pieces.filter(({ kind }) => kind === 'user-defined').map((piece) => piece.text);
  const normalizer = new Normalizer(model.normalizer, userDefined, 'test');
  const length = normalizer.normalize(text);
  const out = new Int32Array(1000);
  const count = new UnigramEncoder(model, normalizer).encodeInto(normalizer.bytes, length, out, 0);
  return Array.from(out.subarray(0, count), (id) => model.pieces[id]!.text);
}

const bytePieces = Array.from({ length: 256 }, (_, byte): Piece => {
  return { text: `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, score: 0, kind: 'byte' };
});

describe('segmentation', () => {
  const letters = { '\u2581': -3, a: -2, b: -2 };

  test('has the best sum of scores', () => {
    assert.deepEqual(segment(modelOf({ ...letters, '\u2581a': -4, ab: -3.5 }), 'ab'), ['\u2581a', 'b']);
    assert.deepEqual(segment(modelOf({ ...letters, '\u2581a': -5, ab: -3.5 }), 'ab'), ['\u2581', 'ab']);
  });

  test('among equal sums, has the last piece that starts first', () => {
    assert.deepEqual(segment(modelOf({ ...letters, ab: -4 }), 'ab'), ['\u2581', 'ab']);
    assert.deepEqual(segment(modelOf({ ...letters, aa: -4 }), 'aaa'), ['\u2581', 'a', 'aa']);
  });

  test('gives one id for a run of unknown characters', () => {
    assert.deepEqual(segment(modelOf(letters), 'axyéb'), ['\u2581', 'a', '<unk>', 'b']);
    assert.deepEqual(segment(modelOf(letters), 'x y'), ['\u2581', '<unk>', '\u2581', '<unk>']);
  });

  test('scores an unknown character 10 below the worst piece', () => {
    // x alone is unknown: -2 (a) and -14.5 against one piece.
    const rare = (score: number): UnigramModel => modelOf({ ...letters, ax: score });
    assert.deepEqual(segment(rare(-4.5), 'ax'), ['\u2581', 'ax']);
    assert.deepEqual(segment(modelOf({ a: -2, '\u2581': -2, aax: -20 }), 'aax'), ['\u2581', 'aax']);
  });

  test('gives bytes for unknown characters if the model says so, also for an unknown space', () => {
    const model = modelOf({ a: -1 }, bytePieces, { byteFallback: true });
    assert.deepEqual(segment(model, 'aé'), ['<0xE2>', '<0x96>', '<0x81>', 'a', '<0xC3>', '<0xA9>']);
  });

  test('never uses unused pieces, and always uses user-defined pieces, which the normalizer does not change', () => {
    const unused: Piece = { text: 'ab', score: 0, kind: 'unused' };
    assert.deepEqual(segment(modelOf(letters, [unused]), 'ab'), ['\u2581', 'a', 'b']);
    const tag: Piece = { text: 'a b', score: -99, kind: 'user-defined' };
    const mark: Piece = { text: '<x>', score: -99, kind: 'user-defined' };
    assert.deepEqual(segment(modelOf(letters, [mark]), 'a<x>b'), ['\u2581', 'a', '<x>', 'b']);
    // The space inside is escaped like any other, so this piece never matches.
    assert.deepEqual(segment(modelOf(letters, [tag]), 'a b'), ['\u2581', 'a', '\u2581', 'b']);
  });

  test('has the best score of all segmentations', () => {
    const pieces = fc.dictionary(
      fc.string({ unit: fc.constantFrom('a', 'b', '\u2581'), minLength: 1, maxLength: 3 }),
      fc.integer({ min: -64, max: -1 }),
      { maxKeys: 12 },
    );
    fc.assert(
      fc.property(
        pieces,
        fc.string({ unit: fc.constantFrom('a', 'b', ' '), minLength: 1, maxLength: 9 }),
        (extra, text) => {
          const scores: Record<string, number> = { '\u2581': -40, a: -41, b: -42, ...extra };
          const normalized = new Normalizer(RULES, [], 'test').normalizedText(text);
          const best = [0];
          for (let end = 1; end <= normalized.length; end++) {
            const sums = Array.from(
              { length: end },
              (_, start) => best[start]! + (scores[normalized.slice(start, end)] ?? -Infinity),
            );
            best.push(Math.max(...sums));
          }
          const found = segment(modelOf(scores), text);
          assert.equal(found.join(''), normalized);
          assert.equal(
            found.reduce((sum, piece) => sum + scores[piece]!, 0),
            best[normalized.length],
          );
        },
      ),
      { numRuns: 200 },
    );
  });
});

describe('decoding', () => {
  const model = modelOf({ '\u2581': -1, '\u2581a': -1, b: -1, '\u2581\u2581c': -1 }, bytePieces, {
    byteFallback: true,
  });
  const decode = (changes: Partial<NormalizerSpec>, ...pieces: string[]): string =>
    new PieceDecoder({ ...model, normalizer: { ...RULES, ...changes } }).decode(
      pieces.map((text) => model.pieces.findIndex((piece) => piece.text === text)),
    );

  test('removes all, one or no spaces at the start, depending on the normalizer', () => {
    assert.equal(decode({}, '\u2581', '\u2581a', 'b', '\u2581a'), 'ab a');
    assert.equal(decode({ removeExtraWhitespaces: false }, '\u2581', '\u2581a', 'b'), ' ab');
    assert.equal(decode({ removeExtraWhitespaces: false, addDummyPrefix: false }, '\u2581a', 'b'), ' ab');
    assert.equal(decode({}, '</s>', '\u2581a', '<pad>', '\u2581a'), 'a a');
    assert.equal(decode({}, '<unk>', '\u2581a'), ' ?  a');
  });

  test('joins bytes into characters, and replaces each invalid byte by U+FFFD', () => {
    assert.equal(decode({}, '\u2581a', '<0xC3>', '<0xA9>', 'b'), 'aéb');
    assert.equal(decode({}, '<0xF0>', '<0x9F>', '<0x98>', '<0x80>'), '\u{1f600}');
    assert.equal(decode({}, '<0xC3>', 'b', '<0xE2>', '<0x96>', '<0x41>', '<0xFF>'), '\ufffdb\ufffd\ufffdA\ufffd');
  });
});
