import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { findJsonEnd, numberOrDigits, parseJson } from './json-text.ts';

function valueOf(text: string): unknown {
  const parsed = parseJson(text);
  return parsed.ok ? parsed.value : assert.fail(`${text}: ${parsed.reason}`);
}

function reasonOf(text: string): string {
  const parsed = parseJson(text);
  return parsed.ok ? assert.fail(`${text} is accepted`) : parsed.reason;
}

describe('numbers of JSON', () => {
  test('stay numbers if a double holds them as written', () => {
    for (const text of ['0', '-7', '9007199254740991', '1.5', '-0.25', '1.50', '1.0', '1e5', '1.5e-7', '2E+3', '1e21'])
      assert.equal(valueOf(text), Number(text), text);
    assert.ok(Object.is(valueOf('-0'), -0));
  });

  test('become their digits if a double would change them', () => {
    for (const text of [
      '9007199254740993',
      '-9007199254740995',
      '12345678901234567890',
      '1000000000000000000000',
      '123456789012345678901234567890',
      '9007199254740993.01',
      '0.12345678901234567890123',
      '3.14159265358979323846',
      '0.0000001',
      '1e400',
      '1e-400',
      '1.2345678901234567890e3',
    ]) {
      assert.equal(valueOf(text), text);
      assert.deepEqual(valueOf(`{"q":"a","a":[${text}, 1 ,{"b":${text}}]}`), { q: 'a', a: [text, 1, { b: text }] });
    }
  });

  test('any decimal is a number of the same value, or its text', () => {
    const digits = fc.stringMatching(/^\d{1,25}$/u).map((text) => text.replace(/^0+(?=\d)/u, ''));
    fc.assert(
      fc.property(digits, fc.option(digits, { nil: undefined }), fc.boolean(), (whole, fraction, isNegative) => {
        const text = `${isNegative ? '-' : ''}${whole}${fraction === undefined ? '' : `.${fraction}`}`;
        const value = numberOrDigits(text);
        if (typeof value === 'string') {
          assert.equal(value, text);
          return;
        }
        // A double of at most 17 digits is exact as a decimal of that many digits.
        const [shownWhole = '', shownFraction = ''] = String(Math.abs(value)).split('.');
        const pad = (part: string) => part.padEnd(30, '0');
        assert.equal(shownWhole, whole);
        assert.equal(pad(shownFraction), pad(fraction ?? ''));
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('lone surrogates', () => {
  test('are an error, in a text, a list, a name', () => {
    assert.match(reasonOf(String.raw`{"q":"a\ud83d b","a":"x"}`), /half of a surrogate pair in "q"/);
    assert.match(reasonOf(String.raw`{"q":["x",{"y":"\uDE00"}]}`), /half of a surrogate pair in "q"/);
    assert.match(reasonOf(String.raw`{"\ud800":1}`), /half of a surrogate pair in a name/);
    assert.match(reasonOf(String.raw`{"id":9007199254740993,"q":"\udfff\ud800"}`), /half of a surrogate pair in "q"/);
  });

  test('pairs, NUL, U+FFFF and an escaped backslash before u are text', () => {
    assert.deepEqual(valueOf(String.raw`["\ud83d\ude00","\u0000","\uffff","\\ud83d","😀"]`), [
      '😀',
      '\0',
      '\uffff',
      String.raw`\ud83d`,
      '😀',
    ]);
  });
});

test('an error has its place and says what is expected there', () => {
  for (const [text, reason] of [
    ['{"a":1,"score":NaN}', 'at character 16: expected a value, found "NaN}"'],
    ['{"a":"x",}', 'at character 10: expected a name in double quotes, found "}"'],
    ['{"a":1', 'at character 7: expected "," or "}", found the end of the text'],
    ['{"a" 1}', 'at character 6: expected ":", found "1}"'],
    ['[1 2]', 'at character 4: expected "," or "]", found "2]"'],
    ["{'a':1}", `at character 2: expected a name in double quotes, found "'a':1}"`],
    ['{"a":1}{"b":2}', 'at character 8: expected the end, found "{\\"b\\":2}"'],
    ['"a\tb"', 'at character 3: expected no control character in a text, found "\\tb\\""'],
    ['"\\x"', 'at character 2: expected an escape of JSON, found "\\\\x\\""'],
    ['01', 'at character 2: expected the end, found "1"'],
    ['', 'at character 1: expected a value, found the end of the text'],
  ] as const)
    assert.equal(reasonOf(text), reason);
});

test('accepts exactly the texts that JSON.parse accepts, with the same values', () => {
  const json = fc.json({ noUnicodeString: false, maxDepth: 4 });
  const damage = fc.tuple(
    fc.nat(),
    fc.constantFrom('', '"', ',', '{', ']', '\\', '0', 'e', '.', ' ', 'é', '1234567890123456'),
  );
  fc.assert(
    fc.property(json, fc.array(damage, { maxLength: 3 }), (whole, damages) => {
      let text = whole;
      for (const [at, put] of damages) {
        const place = at % (text.length + 1);
        text = text.slice(0, place) + put + text.slice(place + 1);
      }
      let expected: unknown;
      try {
        expected = JSON.parse(text);
      } catch {
        reasonOf(text);
        return;
      }
      const parsed = parseJson(text);
      if (parsed.ok) assert.deepEqual(toNumbers(parsed.value), toNumbers(expected));
      else assert.match(parsed.reason, /surrogate/);
    }),
    { numRuns: 3_000 },
  );
});

/** Digits as numbers, to compare with the lossy values of JSON.parse. */
function toNumbers(value: unknown): unknown {
  if (typeof value === 'string' && /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/u.test(value)) return Number(value);
  if (Array.isArray(value)) return value.map(toNumbers);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, toNumbers(entry)]));
}

test('deep nesting does not overflow the stack', () => {
  const deep = `${'['.repeat(200_000)}9007199254740993${']'.repeat(200_000)}`;
  assert.ok(parseJson(deep).ok);
});

test('the end of the first value is found in a text that goes on or is cut', () => {
  assert.deepEqual(findJsonEnd('{"a":1}\n{"b"'), { state: 'whole', end: 7 });
  for (const text of ['{', '[', '{"a', '{"a":tr', '{"a":-', '{"a":"\\', '{"a":"\\u12', '{"a":1,', '[{}', '  '])
    assert.deepEqual(findJsonEnd(text), { state: 'cut' }, text);
  assert.deepEqual(findJsonEnd('{"a":1\n[1]'), { state: 'wrong', at: 7 });
  assert.deepEqual(findJsonEnd('{"a":x'), { state: 'wrong', at: 5 });
});
