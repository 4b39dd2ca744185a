import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { chooseChunk, MAX_CHUNK_TOKENS } from './document-chunk.ts';

const origin = { task: 'c4_en', file: 'en/c4-train.00000-of-01024.json.gz', row: 1 };

describe('the chunk of a long document', () => {
  test('is all of a document that is not longer than one', () => {
    for (const length of [1, 2, 65_535, MAX_CHUNK_TOKENS])
      assert.deepEqual(chooseChunk(length, origin), { from: 0, to: length });
  });

  test('is one of the aligned ones, the last as long as what is left', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 1, max: 7 }), fc.nat(), (length, most, row) => {
        const { from, to } = chooseChunk(length, { ...origin, row }, most);
        assert.equal(from % most, 0);
        assert.equal(to, Math.min(length, from + most));
        assert.ok(from < length);
      }),
    );
  });

  test('is each of them about equally often, and always the same for the same document', () => {
    const counts = [0, 0, 0, 0];
    const numDocuments = 4_000;
    for (let row = 1; row <= numDocuments; row++) {
      const { from } = chooseChunk(3 * MAX_CHUNK_TOKENS + 1, { ...origin, row });
      assert.equal(chooseChunk(3 * MAX_CHUNK_TOKENS + 1, { ...origin, row }).from, from);
      counts[from / MAX_CHUNK_TOKENS]! += 1;
    }
    const expected = numDocuments / 4;
    const chiSquare = counts.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    assert.ok(chiSquare < 16.27, `chi-square of ${counts.join(', ')} is ${chiSquare}`); // 3 degrees of freedom, p = 0.001
  });

  test('depends on the task and the file, not only on the row', () => {
    const chosen = (other: Partial<typeof origin>) =>
      Array.from({ length: 64 }, (_, row) => chooseChunk(100, { ...origin, ...other, row }, 10).from);
    assert.notDeepEqual(chosen({}), chosen({ task: 'other' }));
    assert.notDeepEqual(chosen({}), chosen({ file: 'en/c4-train.00001-of-01024.json.gz' }));
  });
});
