import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { TrainerError } from './errors.ts';
import { visibleText } from './visible-text.ts';

describe('visible text', () => {
  for (const [what, text, expected] of [
    ['colours', '\u001b[31mred\u001b[0m', '\\u001b[31mred\\u001b[0m'],
    ['a title of the window', '\u001b]0;x\u0007', '\\u001b]0;x\\u0007'],
    ['a control sequence in one character', 'a\u009b2Jb', 'a\\u009b2Jb'],
    ['a return over the line before', 'bad\rgood', 'bad\\u000dgood'],
    ['backspaces and DEL', 'a\b\u007f', 'a\\u0008\\u007f'],
    ['text turned around', 'a\u202etxt.exe', 'a\\u202etxt.exe'],
    ['a lone surrogate', 'a\ud800b', 'a\\ud800b'],
    ['lines and tabs', 'a\tb\nc', 'a\tb\nc'],
    ['other scripts', 'façade 日本語 😀 ▁', 'façade 日本語 😀 ▁'],
  ] as const)
    test(what, () => assert.equal(visibleText(text), expected));

  test('a JSON text keeps its value', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value);
        assert.deepEqual(JSON.parse(visibleText(text)), JSON.parse(text));
      }),
    );
  });

  test('it is applied once: the result has nothing unsafe', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => visibleText(visibleText(text)) === visibleText(text)),
    );
  });

  test('the message of an error is visible text', () => {
    assert.equal(new TrainerError('INTERNAL', 'a\u001b[2Jb\nc').message, 'a\\u001b[2Jb\nc');
  });
});
