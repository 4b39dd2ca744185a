import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeTokenRows, encodeTokenRows } from './token-rows.ts';

const rows = fc.array(fc.array(fc.integer({ min: 0, max: 2 ** 32 - 1 }), { maxLength: 9 }), { maxLength: 9 });

test('rows are the same after the way through bytes', () => {
  fc.assert(
    fc.property(rows, (given) => {
      assert.deepEqual(decodeTokenRows(encodeTokenRows(given)), given);
    }),
  );
});

test('a number takes four bytes, the lowest first, and a row begins with its length', () => {
  assert.equal(Buffer.from(encodeTokenRows([[258, 1], []])).toString('hex'), '02000000020100000100000000000000');
});

test('bytes that end inside a row are refused', () => {
  const bytes = encodeTokenRows([[7, 8], [9]]);
  for (let length = 1; length < bytes.length; length++) {
    if (length === 12) continue; // the end of the first row
    assert.throws(() => decodeTokenRows(bytes.subarray(0, length)), { code: 'MESSAGE_INVALID' });
  }
  assert.throws(() => decodeTokenRows(Buffer.from('ffffffff', 'hex')), { code: 'MESSAGE_INVALID' });
});
