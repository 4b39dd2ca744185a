import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { TrainerError } from './errors.ts';
import { parseYaml } from './parse-yaml.ts';

/** The refusal of a text. */
function refusalOf(text: string): TrainerError {
  try {
    parseYaml(text, 'a.yaml');
  } catch (error) {
    assert.ok(error instanceof TrainerError, String(error));
    assert.equal(error.code, 'CONFIG_INVALID');
    assert.match(error.message, /^a\.yaml/u);
    return error;
  }
  return assert.fail(`accepted: ${text.slice(0, 100)}`);
}

/** n levels, each a list of nine aliases of the level before. */
function bomb(levels: number): string {
  const lines = ['l0: &l0 lol'];
  for (let i = 1; i <= levels; i++)
    lines.push(
      `l${i}: &l${i} [${Array(9)
        .fill(`*l${i - 1}`)
        .join(', ')}]`,
    );
  return lines.join('\n');
}

describe('YAML of strangers', () => {
  for (const [what, text, pattern] of [
    ['an alias without an anchor', 'a: 1\nname: *nope\n', /line 2: no anchor &nope stands before the alias \*nope/u],
    ['an alias before its anchor', 'a: *x\nb: &x 1\n', /line 1: no anchor &x/u],
    ['a list that contains itself', 'a: 1\nb: &b [1, *b]\n', /line 2: \*b contains itself/u],
    ['a mapping that contains itself', 'a: &a\n  b:\n    c: *a\n', /line 3: \*a contains itself/u],
    ['aliases that multiply', bomb(8), /expands to more than 1000000 values, the largest part at line 9/u],
    ['more aliases than the bound', `a: &a x\nb: [${Array(2100).fill('*a').join(', ')}]`, /more than 2000 anchors/u],
    ['brackets inside each other', '['.repeat(200_000), /line 1: more than 100 collections inside each other/u],
    ['lists inside each other', `a: 1\n${'- '.repeat(5_000)}x`, /line 2: /u],
    ['mappings inside each other', '{a: '.repeat(3_000), /line 1: more than 100 collections/u],
    [
      'indented mappings inside each other',
      Array.from({ length: 150 }, (_, i) => `${' '.repeat(i)}a:`).join('\n'),
      /line 101: more than 100/u,
    ],
    [
      'a text beyond the bound',
      `# ${'x'.repeat(2 * 1024 * 1024)}`,
      /expected YAML of at most 2097152 B, found 2097154 B/u,
    ],
    ['a key given twice', 'a:\n  b: 1\n  c: 2\n  b: 3\n', /line 4: map keys must be unique: "b" is there twice/u],
    ['a list as a key', 'a: 1\n? [b]\n: 2\n', /line 2: expected a plain value as key/u],
    ['an alias as a key', 'a: &a x\n*a : 2\n', /line 2: expected a plain value as key/u],
    ['two documents', 'a: 1\n---\nb: 2\n', /line [23]: expected one document, found another one/u],
    ['an open bracket', 'a: [1,\n', /line [12]: /u],
    ['a tab as indentation', 'a:\n\tb: 1\n', /line 2: /u],
  ] as const)
    test(`${what}: refused with the line`, () => {
      assert.match(refusalOf(text).message, pattern);
    });

  test('all problems are in one message', () => {
    const { message } = refusalOf('a: *x\nb: *y\nc: 1\nc: 2\n');
    assert.deepEqual(
      [...message.matchAll(/line (\d)/gu)].map(([, line]) => line),
      ['1', '2', '4'],
    );
  });

  test('anchors and aliases that stay small are values', () => {
    const { value } = parseYaml('base: &base { a: 1 }\nlist: [*base, *base]\nagain: &base 3\nlast: *base\n', 'a.yaml');
    assert.deepEqual(value, { base: { a: 1 }, list: [{ a: 1 }, { a: 1 }], again: 3, last: 3 });
  });

  test('many aliases of one anchor are values', () => {
    const { value } = parseYaml(`a: &a x\nb: [${Array(1000).fill('*a').join(', ')}]`, 'a.yaml');
    assert.deepEqual(value, { a: 'x', b: Array(1000).fill('x') });
  });

  test('twenty thousand keys take less than the time of comparing each with each', () => {
    const keys = Array.from({ length: 20_000 }, (_, i) => `k${i}`);
    const { value } = parseYaml(keys.map((key) => `${key}: 1`).join('\n'), 'a.yaml');
    assert.equal(Object.keys(value as object).length, keys.length);
  });

  test('an empty text is null', () => {
    assert.equal(parseYaml('', 'a.yaml').value, null);
    assert.equal(parseYaml('# only a comment\n', 'a.yaml').value, null);
  });

  test('a place has its line, a missing one that of what encloses it', () => {
    const document = parseYaml('a: 1\ntasks:\n  - name: x\n  - name: y\n    rate: 2\n', 'a.yaml');
    assert.equal(document.lineOf(['tasks', 1, 'rate']), 5);
    assert.equal(document.lineOf(['tasks', 1, 'nothing']), 4);
    assert.equal(document.lineOf(['nothing']), 1);
  });

  test('any JSON that exmix writes as YAML is read back', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => {
        assert.deepEqual(
          JSON.parse(JSON.stringify(parseYaml(stringify(value), 'a.yaml').value)),
          JSON.parse(JSON.stringify(value)),
        );
      }),
    );
  });

  test('any text is a value or CONFIG_INVALID', () => {
    const piece = fc.constantFrom(
      'a',
      ': ',
      '- ',
      '\n',
      '  ',
      '[',
      ']',
      '{',
      '}',
      '&a ',
      '*a',
      ', ',
      '"',
      "'",
      '|\n',
      '? ',
      '!!x ',
      '%',
      '---\n',
      '#',
    );
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 40 }), (pieces) => {
        try {
          parseYaml(pieces.join(''), 'a.yaml');
        } catch (error) {
          assert.ok(error instanceof TrainerError && error.code === 'CONFIG_INVALID', String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
