import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { createTemplatePreprocessor, normalizeWhitespace, parseTemplate, renderTemplate } from './template.ts';

const render = (template: string, fields: Record<string, unknown>) => renderTemplate(parseTemplate(template), fields);
const reasonOf = (result: { ok: boolean; reason?: string }) => {
  assert.equal(result.ok, false);
  return result.reason ?? '';
};

describe('templates', () => {
  test('insert text, numbers and booleans, and reduce runs of whitespace to one space', () => {
    assert.deepEqual(render('mnli  hypothesis: {h} n: {n} b: {b}', { h: ' a\n\tb\u00a0c ', n: 3.5, b: true }), {
      ok: true,
      text: 'mnli hypothesis: a b c n: 3.5 b: true',
    });
  });

  test('double braces are braces', () => {
    assert.deepEqual(render('{{{a}}} {{x}}', { a: 'v' }), { ok: true, text: '{v} {x}' });
  });

  test('a value that looks like a placeholder is not replaced again', () => {
    assert.deepEqual(render('{a} {b}', { a: '{b}', b: '$&' }), { ok: true, text: '{b} $&' });
  });

  for (const template of ['{a', 'a}', '{a {b}', '{}', '{ } x', 'plain', ''])
    test(`rejects the template "${template}"`, () => {
      assert.throws(() => parseTemplate(template), { code: 'CONFIG_INVALID' });
    });

  test('the reason for a missing field names the nearest field; an inherited property is not a field', () => {
    assert.match(reasonOf(render('{wrod}', { word: 'x', other: 'y' })), /"wrod" is missing; did you mean "word"/);
    assert.match(reasonOf(render('{constructor}', {})), /"constructor" is missing/);
  });

  for (const [what, value] of [
    ['null', null],
    ['a list', ['x']],
    ['of type object', {}],
    ['of type number', Number.NaN],
  ] as const)
    test(`a value that is ${what} is malformed`, () => {
      assert.match(reasonOf(render('{a}', { a: value })), new RegExp(what));
    });

  test('blank placeholders are malformed only if all are blank', () => {
    assert.match(reasonOf(render('define: {a} {b}', { a: ' ', b: '' })), /empty: "a", "b"/);
    assert.deepEqual(render('define: {a} {b}', { a: ' ', b: 'x' }), { ok: true, text: 'define: x' });
  });

  test('normalized text has no run of whitespace and none at its ends; normalizing it again changes nothing', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(' ', '\n', '\t', '\u3000', 'a', 'é', '😀') }), (text) => {
        const normal = normalizeWhitespace(text);
        assert.doesNotMatch(normal, /^\s|\s$|\s\s|[^\S ]/u);
        assert.equal(normalizeWhitespace(normal), normal);
        assert.equal(normal, text.replace(/\s+/gu, ' ').trim());
        assert.equal(normal.replaceAll(' ', ''), text.replace(/\s/gu, ''));
      }),
      { numRuns: 200 },
    );
  });
});

describe('label targets', () => {
  const targetsOf = (labels: string[], label: unknown, targets = '{label}') => {
    const result = createTemplatePreprocessor({ inputs: 'x: {x}', targets, labels }).apply({ x: 'text', label });
    return result.ok ? result.examples[0]!.targets : result.reason;
  };

  test('accept a label as text, index, digits or boolean', () => {
    for (const label of ['spam', ' spam ', 1, '1', true]) assert.equal(targetsOf(['ham', 'spam'], label), 'spam');
  });

  test('do not accept an index if labels look like numbers', () => {
    assert.equal(targetsOf(['1', '2'], 1), '1');
    assert.match(targetsOf(['1', '2'], 0), /unknown label "0"/);
  });

  test('any other value is an unknown label; the reason names the nearest labels', () => {
    assert.match(targetsOf(['ham', 'spam'], 'spma'), /unknown label "spma"; did you mean "spam"/);
    for (const label of [-1, 2, 1.5, '']) assert.match(targetsOf(['ham', 'spam'], label), /unknown label|empty/);
  });

  test('a template around the label is checked as a whole text', () => {
    assert.equal(targetsOf(['is ham', 'is spam'], 'ham', 'is {label}'), 'is ham');
    assert.match(targetsOf(['is ham', 'is spam'], 1, 'is {label}'), /unknown label "is 1"/);
  });
});
