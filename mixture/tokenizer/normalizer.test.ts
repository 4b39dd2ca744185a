import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Charsmap } from './charsmap.ts';
import { loadNmtNfkc } from './nmt-nfkc.ts';
import { Normalizer } from './normalizer.ts';
import type { NormalizerSpec } from './unigram-model.ts';

const spec = loadNmtNfkc();
const normalizer = new Normalizer(spec, [], 'nmt_nfkc');
const withSettings = (changes: Partial<NormalizerSpec>): Normalizer =>
  new Normalizer({ ...spec, ...changes }, [], 'test');

describe('nmt_nfkc', () => {
  const cases: [string, string][] = [
    ['', ''],
    [' \t\n\u3000\u200b ', ''],
    ['a  b', '\u2581a\u2581b'],
    ['ﬁ ﷺ', '\u2581fi\u2581صلى\u2581الله\u2581عليه\u2581وسلم'],
    ['Å', '\u2581\u00c5'],
    ['A\u030a', '\u2581\u00c5'],
    ['a\u0301\u0301', '\u2581á\u0301'],
    ['a\u0001b\u007f', '\u2581ab'],
    ['a\ud800x\udc00', '\u2581a\u2581x'], // as U+FFFD, which nmt_nfkc maps to a space
    ['a\u2581b', '\u2581a\u2581b'],
  ];
  for (const [text, normalized] of cases) {
    test(`${JSON.stringify(text)} becomes ${JSON.stringify(normalized)}`, () => {
      assert.equal(normalizer.normalizedText(text), normalized);
    });
  }

  test('the ASCII path and the rule path give the same result', () => {
    const ascii = fc.string({
      unit: fc.integer({ min: 0, max: 127 }).map((code) => String.fromCharCode(code)),
      maxLength: 40,
    });
    fc.assert(
      fc.property(ascii, (text) => {
        // The é in front sends the rest through the path for bytes.
        assert.equal(
          normalizer.normalizedText(`é${text}`),
          normalizer.normalizedText(`e${text}`).replace('\u2581e', '\u2581é'),
        );
      }),
      { numRuns: 500 },
    );
  });

  test('normalizing twice equals normalizing once', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const once = normalizer.normalizedText(text);
        // This does not hold for marks that compose only after reordering; skip texts with them.
        fc.pre(!/\p{M}/u.test(once));
        assert.equal(normalizer.normalizedText(once), once);
      }),
      { numRuns: 300 },
    );
  });
});

describe('settings', () => {
  test('all spaces are kept without removeExtraWhitespaces', () => {
    assert.equal(
      withSettings({ removeExtraWhitespaces: false }).normalizedText(' a  b '),
      '\u2581\u2581a\u2581\u2581b\u2581',
    );
  });
  test('the dummy prefix is optional', () => {
    assert.equal(withSettings({ addDummyPrefix: false }).normalizedText(' a b'), 'a\u2581b');
  });
  test('escaping of spaces is optional', () => {
    assert.equal(withSettings({ escapeWhitespaces: false }).normalizedText(' a  b '), ' a b');
  });
  test('user-defined texts stay unchanged', () => {
    const marks = new Normalizer(spec, ['ﬁ', 'a\u0301'], 'test');
    assert.equal(marks.normalizedText('ﬁ a\u0301 ﬂ e\u0301'), '\u2581ﬁ\u2581a\u0301\u2581fl\u2581é');
  });
});

describe('a damaged charsmap is TOKENIZER_INVALID', () => {
  const blob = spec.charsmap;
  const refused = (damaged: Uint8Array): void =>
    assert.throws(() => new Charsmap(damaged, 'damaged'), { code: 'TOKENIZER_INVALID' });

  test('truncated', () => {
    for (const length of [1, 3, 4, 5, 1000, 200_000, blob.length - 1, blob.length - 2]) {
      if (blob[length - 1] !== 0 || length < 200_000) refused(blob.subarray(0, length));
    }
  });
  test('a trie of no size, of an odd size, larger than the blob', () => {
    for (const size of [0, 5, blob.length]) {
      const damaged = Uint8Array.from(blob);
      new DataView(damaged.buffer).setUint32(0, size, true);
      refused(damaged);
    }
  });
  test('a value outside the replacements', () => {
    const trieBytes = new DataView(blob.buffer, blob.byteOffset).getUint32(0, true);
    refused(Buffer.concat([blob.subarray(0, 4 + trieBytes), Uint8Array.of(0)]));
  });
});
