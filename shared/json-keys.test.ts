import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { findDuplicateKey, isTooDeep } from './json-keys.ts';

describe('nesting', () => {
  for (const [what, json, expected] of [
    ['100 lists', `${'['.repeat(100)}${']'.repeat(100)}`, false],
    ['101 lists', `${'['.repeat(101)}${']'.repeat(101)}`, true],
    ['101 lists and objects', `${'[{"a":'.repeat(51)}1${'}]'.repeat(51)}`, true],
    ['a million lists', '['.repeat(1_000_000) + ']'.repeat(1_000_000), true],
    ['a thousand lists beside each other', `[${Array(1000).fill('[]').join(',')}]`, false],
    ['brackets in texts', JSON.stringify(['['.repeat(500), '"['.repeat(500), '\\['.repeat(500)]), false],
  ] as const)
    test(`${what}: ${expected ? 'too deep' : 'not too deep'}`, () => assert.equal(isTooDeep(json), expected));
});

describe('duplicate keys', () => {
  for (const [json, expected] of [
    ['{}', undefined],
    ['[]', undefined],
    ['"a"', undefined],
    ['1', undefined],
    ['{"a":1,"b":2}', undefined],
    ['{"a":1,"a":2}', 'a'],
    [' { "a" : 1 , "a" : 2 } ', 'a'],
    ['{"a":{"a":{"a":1}}}', undefined],
    ['[{"a":1},{"a":1}]', undefined],
    ['[{"a":1},{"b":[{"c":1,"c":1}]}]', 'c'],
    ['{"a":"a","b":"a"}', undefined],
    ['{"a":["a","a"],"b":"b"}', undefined],
    ['{"a":[1,2],"a":3}', 'a'],
    ['{"a":{"x":1},"b":2,"a":3}', 'a'],
    ['{"a":1,"\\u0061":2}', 'a'],
    ['{"\\"":1,"\\\\":2,"\\"":3}', '"'],
    ['{"{\\"a\\":1,":1,"}":2,",":3,"[":4}', undefined],
    ['{"__proto__":1,"__proto__":2}', '__proto__'],
    ['{"":1,"":2}', ''],
  ] as const)
    test(`${json}: ${expected === undefined ? 'none' : JSON.stringify(expected)}`, () => {
      JSON.parse(json);
      assert.equal(findDuplicateKey(json), expected);
    });

  test('a value that JSON.stringify wrote has none', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => findDuplicateKey(JSON.stringify(value, undefined, 1)) === undefined),
    );
  });

  test('a key repeated at the end of any object is found', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue(), { minKeys: 1 }), fc.nat(), (object, pick) => {
        const keys = Object.keys(object);
        const key = keys[pick % keys.length]!;
        const text = JSON.stringify(object);
        assert.equal(findDuplicateKey(`${text.slice(0, -1)},${JSON.stringify(key)}:0}`), key);
      }),
    );
  });
});
