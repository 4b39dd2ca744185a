import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { BLOCK_BYTES, BlockChecksums, isBlockWhole, numBlocks } from './block-checksums.ts';

const bytesOf = (length: number, seed: number) =>
  Uint8Array.from({ length }, (_, i) => (i * 31 + seed * 7 + (i >> 8)) & 255);
const checksumsOf = (bytes: Uint8Array, cuts: readonly number[] = []) => {
  const checksums = new BlockChecksums();
  let from = 0;
  for (const cut of [...cuts].sort((a, b) => a - b)) {
    checksums.add(bytes.subarray(from, cut));
    from = cut;
  }
  checksums.add(bytes.subarray(from));
  return checksums.finish();
};

describe('checksums of blocks', () => {
  test('are CRC-32 as zlib defines it, little-endian, one a block, the last one shorter', () => {
    assert.equal(checksumsOf(Buffer.from('123456789')).toString('hex'), '2639f4cb');
    const bytes = bytesOf(BLOCK_BYTES + 5, 1);
    const sums = checksumsOf(bytes);
    assert.equal(sums.length, 8);
    assert.equal(sums.readUInt32LE(0), crc32(bytes.subarray(0, BLOCK_BYTES)));
    assert.equal(sums.readUInt32LE(4), crc32(bytes.subarray(BLOCK_BYTES)));
    assert.equal(checksumsOf(Buffer.alloc(0)).length, 0);
    assert.deepEqual([0, 1, BLOCK_BYTES, BLOCK_BYTES + 1].map(numBlocks), [0, 1, 1, 2]);
  });

  test('do not depend on the pieces in which a file is written', () => {
    const length = 5 * BLOCK_BYTES + 77;
    const bytes = bytesOf(length, 3);
    const whole = checksumsOf(bytes);
    fc.assert(
      fc.property(fc.array(fc.nat(length), { maxLength: 12 }), (cuts) => {
        assert.ok(checksumsOf(bytes, cuts).equals(whole));
      }),
      { numRuns: 60 },
    );
  });

  test('hold more blocks than the first table has room for', () => {
    const bytes = bytesOf(300 * BLOCK_BYTES, 5);
    const sums = checksumsOf(bytes, [BLOCK_BYTES - 1]);
    for (const block of [0, 255, 256, 299])
      assert.ok(isBlockWhole(sums, block, bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)));
  });

  test('detect any flipped bit, and a block in the place of another', () => {
    const bytes = bytesOf(2 * BLOCK_BYTES, 9);
    const sums = checksumsOf(bytes);
    const block = (number: number) => Buffer.from(bytes.subarray(number * BLOCK_BYTES, (number + 1) * BLOCK_BYTES));
    assert.ok(isBlockWhole(sums, 1, block(1)));
    assert.ok(!isBlockWhole(sums, 1, block(0)));
    assert.ok(!isBlockWhole(sums, 1, block(1).subarray(1)));
    fc.assert(
      fc.property(fc.nat(BLOCK_BYTES - 1), fc.nat(7), (at, bit) => {
        const flipped = block(0);
        flipped[at]! ^= 1 << bit;
        assert.ok(!isBlockWhole(sums, 0, flipped));
      }),
      { numRuns: 60 },
    );
    assert.throws(() => isBlockWhole(sums, 2, block(0)), { code: 'INTERNAL' });
  });
});
