import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFloatLikePython, parseIntegerLikePython, splitWords, trim, trimEnd } from './python-text.ts';

test('white space is Python’s: separators and U+0085 are, U+FEFF and U+200B are not', () => {
  assert.deepEqual(splitWords('a\u001cb\u0085c\u00a0d\u3000e\ufefff\u200bg'), ['a', 'b', 'c', 'd', 'e\ufefff\u200bg']);
  assert.deepEqual(splitWords(' \t\n'), []);
  assert.equal(trim('\u2003 a b \u0085'), 'a b');
  assert.equal(trimEnd(' a \n'), ' a');
});

test('numbers are those of float()', () => {
  for (const [text, value] of [
    ['1_000.5', 1000.5],
    [' 1e-3\n', 0.001],
    ['.5', 0.5],
    ['5.', 5],
    ['-inf', -Infinity],
    ['+Infinity', Infinity],
    ['٣٫١', undefined],
    ['٣.١', 3.1],
    ['𝟡', 9],
    ['0x10', undefined],
    ['1__0', undefined],
    ['1,5', undefined],
    ['', undefined],
    ['1e', undefined],
  ] as const) {
    assert.equal(parseFloatLikePython(text), value, JSON.stringify(text));
  }
  assert.ok(Number.isNaN(parseFloatLikePython('nan')));
});

test('integers are those of int()', () => {
  assert.equal(parseIntegerLikePython(' +1_0 '), 10);
  assert.equal(parseIntegerLikePython('1.0'), undefined);
  assert.equal(parseIntegerLikePython('three'), undefined);
});
