import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import {
  decodeFrameHeader,
  describeFrame,
  encodeFrameHeader,
  FRAME_PART,
  FRAME_SUM,
  type FrameHeader,
} from './frame-header.ts';

const example: FrameHeader = {
  type: FRAME_PART,
  node: 3,
  chunk: 258,
  epoch: 1,
  generation: 7,
  step: 412,
  bucket: 5,
  part: 2,
  byteLength: 65536,
  offsetBytes: 0x1_0002_0000,
  payloadChecksum: 0xcbf43926,
};

const HEX =
  '45584d31' + '01' + '03' + '0201' + '01000000' + '07000000' + '9c010000' + '05000000' + '02000000' + '00000100';
const HEX_REST = '0000020001000000' + '2639f4cb';

const u32 = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const headers: fc.Arbitrary<FrameHeader> = fc.record(
  {
    type: fc.constantFrom(FRAME_PART, FRAME_SUM),
    node: fc.nat(255),
    chunk: fc.nat(65535),
    epoch: u32,
    generation: u32,
    step: u32,
    bucket: u32,
    part: u32,
    byteLength: u32,
    offsetBytes: fc.maxSafeNat(),
    payloadChecksum: u32,
  },
  { noNullPrototype: true },
);

describe('frame header', () => {
  test('has the bytes of the table', () => {
    const bytes = encodeFrameHeader(example);
    assert.equal(bytes.subarray(0, 44).toString('hex'), HEX + HEX_REST);
    assert.equal(bytes.readUInt32LE(44), crc32(Buffer.from(HEX + HEX_REST, 'hex')));
    assert.equal(bytes.length % 8, 0);
    assert.deepEqual(decodeFrameHeader(bytes), example);
  });

  test('decodes every encoded header', () => {
    fc.assert(fc.property(headers, (header) => assert.deepEqual(decodeFrameHeader(encodeFrameHeader(header)), header)));
  });

  test('rejects every flipped bit and every cut as FRAME_INVALID', () => {
    const bytes = encodeFrameHeader(example);
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const changed = Buffer.from(bytes);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      assert.throws(() => decodeFrameHeader(changed), { code: 'FRAME_INVALID' });
    }
    for (let length = 0; length < bytes.length; length++)
      assert.throws(() => decodeFrameHeader(bytes.subarray(0, length)), { code: 'FRAME_INVALID' });
    assert.throws(() => decodeFrameHeader(Buffer.concat([bytes, bytes])), { code: 'FRAME_INVALID' });
  });

  test('rejects an unknown type even with a good checksum', () => {
    const bytes = encodeFrameHeader(example);
    bytes[4] = 3;
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 44)), 44);
    assert.throws(() => decodeFrameHeader(bytes), {
      code: 'FRAME_INVALID',
      message: /type 1 \(part\) or 2 \(sum\), got 3/,
    });
  });

  test('is described by all its fields', () => {
    assert.equal(
      describeFrame(example),
      'part of bucket 5 chunk 258 part 2 node 3: 65536 B at 4295098368 (epoch 1, generation 7, step 412)',
    );
  });
});
