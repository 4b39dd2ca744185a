import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { decodeRows, encodeRows } from './planned-rows.ts';

const uint32 = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 2 ** 32 - 1 }));
const rowsArbitrary = fc.array(
  fc.array(fc.record({ task: uint32, index: uint32, epoch: uint32 }, { noNullPrototype: true }), {
    minLength: 1,
    maxLength: 6,
  }),
  { maxLength: 8 },
);
const bytesOf = (hex: string) => Uint8Array.from(Buffer.from(hex.replaceAll(' ', ''), 'hex'));

describe('planned rows as bytes', () => {
  test('two rows have the bytes of the layout', () => {
    const rows = [
      [
        { task: 1, index: 300, epoch: 0 },
        { task: 127, index: 128, epoch: 2 },
      ],
      [{ task: 0, index: 2 ** 32 - 1, epoch: 16384 }],
    ];
    const bytes = bytesOf('02  02 01 ac02 00 7f 8001 02  01 00 ffffffff0f 808001');
    assert.deepEqual(encodeRows(rows), bytes);
    assert.deepEqual(decodeRows(bytes), rows);
    assert.deepEqual(encodeRows([]), bytesOf('00'));
  });

  test('decoding returns any encoded rows', () => {
    fc.assert(
      fc.property(rowsArbitrary, (rows) => {
        assert.deepEqual(decodeRows(encodeRows(rows)), rows);
      }),
    );
  });

  test('rejects any truncation', () => {
    fc.assert(
      fc.property(rowsArbitrary, (rows) => {
        const bytes = encodeRows(rows);
        for (let length = 0; length < bytes.length; length++)
          assert.throws(() => decodeRows(bytes.subarray(0, length)), { code: 'MESSAGE_INVALID' });
      }),
      { numRuns: 30 },
    );
  });

  test('any bytes are either rejected with a code, or are the only encoding of their rows', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 24 }), (bytes) => {
        let rows;
        try {
          rows = decodeRows(bytes);
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'MESSAGE_INVALID');
          return;
        }
        assert.deepEqual(encodeRows(rows), Uint8Array.from(bytes));
      }),
      { numRuns: 500 },
    );
  });

  for (const [what, hex, message] of [
    ['an extra byte', '00 00', /expected the end/],
    ['an empty row', '01 00 00 00 00', /from 1/],
    ['a count of rows that exceeds the bytes', 'ffffffff0f 01 00 00 00', /count of 4294967295/],
    ['a count of examples that exceeds the bytes', '01 02 00 00 00', /count of 2/],
    ['a number with superfluous bytes', '01 01 8000 00 00', /superfluous/],
    ['a number above 32 bits', '01 01 ffffffff1f 00 00', /2\^32/],
    ['a number of six bytes', '01 01 ffffffffff0f 00 00', /at most 5 bytes/],
  ] as const)
    test(`rejects ${what}`, () => {
      assert.throws(() => decodeRows(bytesOf(hex)), { code: 'MESSAGE_INVALID', message });
    });

  for (const [what, rows] of [
    ['an empty row', [[]]],
    ['a negative number', [[{ task: 0, index: -1, epoch: 0 }]]],
    ['a number above 32 bits', [[{ task: 0, index: 2 ** 32, epoch: 0 }]]],
  ] as const)
    test(`does not encode ${what}`, () => {
      assert.throws(() => encodeRows(rows), { code: 'INTERNAL' });
    });
});
