/** T5's rules alone, and the reasons for malformed rows. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { labelTask, rewrite } from './building-blocks.ts';
import { createColumnCheck, parseColumnType, printType } from './column-type.ts';
import { EXMIX_TASKS } from './exmix.ts';
import { eachTurn } from './expansions.ts';
import { roundToFifth } from './label-derivations.ts';
import { markPronoun } from './pronoun-derivations.ts';
import { createRulePreprocessor } from './rule.ts';
import { taskFixtures } from './task-fixtures.fixture.ts';
import { firstOf, padPunctuation, withoutHighlights } from './text-derivations.ts';

/** The first made-up row of each task. */
const firstRows = new Map(taskFixtures().map(({ task, rows }) => [task, rows[0]!]));

const reasonOf = (name: string, change: Readonly<Record<string, unknown>>, without: readonly string[] = []) => {
  const task = EXMIX_TASKS.find((candidate) => candidate.name === name)!;
  const row = Object.fromEntries(
    Object.entries({ ...firstRows.get(name), ...change }).filter(([key]) => !without.includes(key)),
  );
  const result = createRulePreprocessor(task.rule, task.columns).apply(row);
  return result.ok ? assert.fail(`accepted: ${JSON.stringify(result.examples)}`) : result.reason;
};

describe('STS-B', () => {
  for (const [score, text] of [
    [0, '0.0'],
    [0.1, '0.0'],
    [0.3, '0.4'],
    [2.5, '2.4'],
    [3.5, '3.6'],
    [4.5, '4.4'],
    [4.75, '4.8'],
    [3.7999999523162842, '3.8'],
    [5, '5.0'],
  ] as const)
    test(`${score} is ${text}`, () => {
      assert.equal(roundToFifth(score), text);
    });

  test('each score becomes one of 26 texts that is at most a tenth away', () => {
    fc.assert(
      fc.property(fc.float({ min: 0, max: 5, noNaN: true }), (score) => {
        const text = roundToFifth(score);
        assert.match(text, /^[0-5]\.[02468]$/u);
        assert.ok(Math.abs(Number(text) - score) <= 0.1 + 1e-6);
      }),
      { numRuns: 300 },
    );
  });
});

describe('SQuAD', () => {
  test('each ASCII punctuation mark has spaces around it; other characters have none', () => {
    assert.equal(padPunctuation('"Was it 1,5%?" – Ana\'s x_y [z]'), '" Was it 1 , 5 % ? " – Ana \' s x _ y [ z ]');
  });

  test('padding twice equals padding once, and no character is lost', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        const padded = padPunctuation(text);
        assert.equal(padPunctuation(padded), padded);
        assert.equal(padded.replaceAll(' ', ''), text.replace(/\s/gu, ''));
      }),
      { numRuns: 200 },
    );
  });
});

describe('ReCoRD', () => {
  for (const [passage, text] of [
    ['It ended.\n@highlight\nAna won', 'It ended. Ana won'],
    ['It ended\n@highlight\nAna won', 'It ended. Ana won'],
    ['"It ended"\n@highlight\nWho won?\n@highlight\nAna!\n@highlight\nSo', '"It ended" Who won? Ana! So'],
  ] as const)
    test(`${JSON.stringify(passage)} is ${text}`, () => {
      assert.deepEqual(withoutHighlights('passage').derive({ passage }), { ok: true, text });
    });
});

describe('WSC', () => {
  test('marks the word at the index, and not the same word elsewhere', () => {
    assert.equal(markPronoun('he said he would', 'he', 2), 'he said *he* would');
    assert.equal(markPronoun('he said he would', 'he', 0), '*he* said he would');
  });

  test('a pronoun keeps its punctuation after the mark; if the index is off by one, the neighbour is marked', () => {
    assert.equal(markPronoun('it was for him," he said', 'him', 3), 'it was for *him* ," he said');
    assert.equal(markPronoun('to use it , but', 'it', 1), 'to use *it* , but');
  });

  test('does not mark a word that only begins like the pronoun', () => {
    assert.equal(markPronoun('the item is', 'it', 1), undefined);
    assert.match(
      reasonOf('super_glue_wsc', { span2_index: 9 }),
      /column "span2_index": expected "she" at word 9 of text/,
    );
  });
});

describe('turns of a dialogue', () => {
  test('need an answer for each question', () => {
    const result = eachTurn('q', 'a').expand({ q: ['one?', 'two?'], a: ['1'] });
    assert.deepEqual(result, { ok: false, reason: 'column "a": expected 2 answers, one for each question, found 1' });
  });
});

describe('a row that does not match is malformed; the reason names column, expected and found', () => {
  for (const [what, name, change, expected] of [
    [
      'a column of another type',
      'glue_mnli',
      { label: 'entailment' },
      /column "label": expected int64, found text "entailment"/,
    ],
    ['null', 'glue_mnli', { premise: null }, /column "premise": expected string, found null/],
    [
      'a fraction instead of an integer',
      'glue_mnli',
      { label: 0.5 },
      /column "label": expected int64, found number 0.5/,
    ],
    [
      'bytes',
      'glue_cola',
      { sentence: new Uint8Array([255]) },
      /column "sentence": expected string, found bytes \(text that is not valid UTF-8\?\)/,
    ],
    [
      'a class that does not exist',
      'glue_mnli',
      { label: 3n },
      /column "label": unknown label 3; expected -1 to 2 \(entailment, neutral, contradiction\)/,
    ],
    ['a class below -1', 'glue_mnli', { label: -2 }, /unknown label -2/],
    ['empty text', 'glue_cola', { sentence: ' \n' }, /inputs: empty: "sentence"/],
    ['empty targets', 'xsum', { summary: '' }, /targets: empty: "summary"/],
    [
      'a text instead of a list',
      'nq_open_closed_book',
      { answer: 'x' },
      /column "answer": expected a list, found text "x"/,
    ],
    [
      'an empty list of answers',
      'squad_v1',
      { answers: { text: [] } },
      /column "answers.text": expected at least one text, found an empty list/,
    ],
    [
      'a list instead of a struct',
      'squad_v1',
      { answers: [] },
      /column "answers": expected a struct, found a list of 0/,
    ],
    [
      'a struct without a member',
      'squad_v1',
      { answers: { start: [] } },
      /column "answers.text": expected list<string>, found null/,
    ],
    [
      'an element of another type',
      'race',
      { options: ['a', 2] },
      /column "options\[1\]": expected string, found number 2/,
    ],
    [
      'an unknown label text',
      'scitail',
      { label: 'entials' },
      /column "label": unknown label "entials"; did you mean "entails"/,
    ],
    [
      'a target that is not a label',
      'kilt_fever',
      { output: [{ answer: 'MAYBE' }] },
      /targets: unknown label "MAYBE"; expected one of SUPPORTS, REFUTES/,
    ],
    ['a candidate that does not exist', 'dpr', { label: 2 }, /column "label": expected 0 to 1, found 2/],
    [
      'a cell that does not exist',
      'gem_totto',
      { highlighted_cells: [[7, 0]] },
      /column "highlighted_cells": expected cells of table, found \[7, 0\]/,
    ],
    [
      'a span outside the text',
      'dialoglue_dstc8_sgd',
      { labels: [{ slot: 's', valueSpan: { startIndex: 4, endIndex: 400 } }] },
      /expected a span inside the 20 characters/,
    ],
    [
      'a sentiment of another scale',
      'sentiment140',
      { sentiment: 2 },
      /column "sentiment": unknown label 2; expected 0 negative, 4 positive/,
    ],
    [
      'an unknown act',
      'gem_schema_guided_dialog',
      { dialog_acts: [{ act: 18, slot: '', values: [] }] },
      /unknown act 18/,
    ],
  ] as const)
    test(`${name}: ${what}`, () => {
      assert.match(reasonOf(name, change), expected);
    });

  test('the reason for a missing column names the nearest column', () => {
    assert.match(
      reasonOf('glue_mnli', { premises: 'x' }, ['premise']),
      /field "premise" is missing; did you mean "premises"/,
    );
  });

  test('with any value in any column, each task gives examples or a reason and never throws', () => {
    const value = fc.oneof(fc.anything({ withBigInt: true, maxDepth: 2 }), fc.constant(new Uint8Array(2)));
    for (const { name, rule, columns } of EXMIX_TASKS) {
      const preprocessor = createRulePreprocessor(rule, columns);
      const row = firstRows.get(name);
      fc.assert(
        fc.property(fc.constantFrom(...Object.keys(columns)), value, (column, junk) => {
          const result = preprocessor.apply({ ...row, [column]: junk });
          if (result.ok)
            for (const { inputs, targets } of result.examples) assert.ok(inputs.trim() !== '' && targets.trim() !== '');
          else assert.ok(result.reason.length > 0);
        }),
        { numRuns: 40 },
      );
    }
  });
});

describe('column types', () => {
  test('print as they are written', () => {
    for (const { columns } of EXMIX_TASKS)
      for (const type of Object.values(columns)) assert.equal(printType(parseColumnType(type)), type);
  });

  test('only a nullable part may be null or absent', () => {
    const check = createColumnCheck({ a: 'list<struct<b: string?, c: int32>>?' });
    assert.equal(check({}), undefined);
    assert.equal(check({ a: null }), undefined);
    assert.equal(check({ a: [{ b: null, c: 1 }, { c: 2n }] }), undefined);
    assert.match(check({ a: [{ b: 'x' }] })!, /column "a\[0\]\.c": expected int32, found null/);
  });

  test('an unknown type is INTERNAL: the table is wrong', () => {
    assert.throws(() => parseColumnType('text'), { code: 'INTERNAL' });
  });
});

describe('identities', () => {
  test('differ if template, labels, column types or derivations differ', () => {
    const columns = { text: 'string', label: 'int64' };
    const rules = [
      labelTask('a: {text}', ['x', 'y']),
      labelTask('b: {text}', ['x', 'y']),
      labelTask('a: {text}', ['x', 'z']),
      rewrite('a: {text}', '{label}'),
      rewrite('a: {text}', '{label}', { label: firstOf('label') }),
    ];
    const identities = rules.map((rule) => JSON.stringify(createRulePreprocessor(rule, columns).identity));
    identities.push(JSON.stringify(createRulePreprocessor(rules[0]!, { ...columns, label: 'int32' }).identity));
    assert.equal(new Set(identities).size, identities.length);
  });
});
