import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { kindOf, RowTally } from './row-tally.ts';
import { addCounts, checkCounts, MAX_KINDS, NUM_SHOWN_ROWS, OTHER_KINDS, type UnitCounts } from './unit-counts.ts';

/** The counts of these rows: each is `good`, `left out`, or the reason why it is malformed. */
function countsOf(rows: readonly string[], tokens: Partial<UnitCounts> = {}): UnitCounts {
  const tally = new RowTally('t');
  for (const [i, row] of rows.entries()) {
    if (row === 'good') tally.addWithExamples();
    else if (row === 'left out') tally.addLeftOut();
    else tally.addMalformed('f', i + 1, row);
  }
  return {
    numExamples: 0,
    numTokens: 0,
    truncated: { inputs: 0, targets: 0, tokens: 0 },
    tokensIn: 0,
    dropped: { longDocuments: 0, remainder: 0 },
    ...tally.counts(),
    ...tokens,
  };
}

const anyRow = fc.oneof(
  fc.constantFrom('good', 'left out'),
  fc.integer({ min: 0, max: 40 }).map((n) => `reason ${'x'.repeat(n)}`),
);

describe('the account of rows', () => {
  test('is consistent for any rows, and for the sum of any units', () => {
    fc.assert(
      fc.property(fc.array(fc.array(anyRow, { maxLength: 60 }), { maxLength: 6 }), (units) => {
        const all = addCounts(units.map((rows) => countsOf(rows)));
        checkCounts(all, 'supervised', 'all');
        assert.deepEqual({ ...all.rows }, { ...countsOf(units.flat()).rows });
        assert.ok(all.malformedKinds.length <= MAX_KINDS + 1);
        assert.ok(all.malformedFirst.length <= NUM_SHOWN_ROWS);
      }),
      { numRuns: 60 },
    );
  });

  test('counts kinds beyond the bound together, and lists them last', () => {
    const reasons = Array.from(
      { length: MAX_KINDS + 3 },
      (_, i) => `kind ${'abcdefghijklmnopqrstuvwxyz'[i % 26]!}${'x'.repeat(Math.floor(i / 26))}`,
    );
    const { malformedKinds } = countsOf([...reasons, reasons[0]!]);
    assert.deepEqual(malformedKinds[0], { reason: reasons[0], rows: 2 });
    assert.deepEqual(malformedKinds.at(-1), { reason: OTHER_KINDS, rows: 3 });
  });

  test('is INTERNAL if a row or a token is missing', () => {
    const good = countsOf(['good', 'left out', 'bad'], {
      tokensIn: 10,
      numTokens: 7,
      dropped: { longDocuments: 2, remainder: 1 },
    });
    checkCounts(good, 'denoising', 'unit');
    for (const broken of [
      { ...good, rows: { ...good.rows, read: 4 } },
      { ...good, malformedKinds: [] },
      { ...good, tokensIn: 11 },
      { ...good, dropped: { longDocuments: 2, remainder: 0 } },
    ])
      assert.throws(() => checkCounts(broken, 'denoising', 'unit'), { code: 'INTERNAL', message: /unit/ });
  });
});

describe('the kind of a malformed row', () => {
  for (const [reason, kind] of [
    ['targets: field "a" is missing', 'targets: field "a" is missing'],
    ['inputs: field "a" must be text, found 3 as a list', 'inputs: field "a" must be text, found # as a list'],
    ['unknown label "perhaps"; did you mean "yes"?', 'unknown label "…"'],
    ['not JSON: the line starts with "{\\"a\\": 1"', 'not JSON: the line starts with "…"'],
    ['the line is not valid UTF-8', 'the line is not valid UTF-8'],
    ['line 7 is UTF-16, not UTF-8', 'line # is UTF-16, not UTF-8'],
    ['5 fields, but the header has 3', '# fields, but the header has #'],
  ] as const)
    test(`of ${reason} is ${kind}`, () => assert.equal(kindOf(reason), kind));
});
