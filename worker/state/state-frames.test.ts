import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { crc32 } from 'node:zlib';
import {
  decodePieceHeader,
  decodeStateRequest,
  encodePieceHeader,
  encodeStateRequest,
  PIECE_HEADER_BYTES,
} from './state-frames.ts';
import { STATE_REQUEST_BYTES } from '../mesh/data-port.ts';

const request = { step: 412, piece: 258, layout: 0xcbf43926 };
const REQUEST_HEX = '45585331' + '01000000' + '9c010000' + '02010000' + '2639f4cb';
const header = { step: 412, piece: 258, byteLength: 1 << 20, payloadChecksum: 0xcbf43926 };
const HEADER_HEX = '45585331' + '02000000' + '9c010000' + '02010000' + '00001000' + '2639f4cb';

for (const { name, numBytes, bytes, hex, decode, value } of [
  {
    name: 'a state request',
    numBytes: STATE_REQUEST_BYTES,
    bytes: encodeStateRequest(request),
    hex: REQUEST_HEX,
    decode: decodeStateRequest,
    value: request,
  },
  {
    name: 'the header of a piece',
    numBytes: PIECE_HEADER_BYTES,
    bytes: encodePieceHeader(header),
    hex: HEADER_HEX,
    decode: decodePieceHeader,
    value: header,
  },
])
  describe(name, () => {
    test('has the bytes of the table', () => {
      assert.equal(bytes.length, numBytes);
      assert.equal(bytes.subarray(0, -4).toString('hex'), hex);
      assert.equal(bytes.readUInt32LE(numBytes - 4), crc32(Buffer.from(hex, 'hex')));
      assert.deepEqual(decode(bytes), value);
    });

    test('rejects every flipped bit, every cut and every excess byte as FRAME_INVALID', () => {
      for (let bit = 0; bit < bytes.length * 8; bit++) {
        const changed = Buffer.from(bytes);
        changed[bit >> 3]! ^= 1 << (bit & 7);
        assert.throws(() => decode(changed), { code: 'FRAME_INVALID' });
      }
      for (let length = 0; length < bytes.length; length++)
        assert.throws(() => decode(bytes.subarray(0, length)), { code: 'FRAME_INVALID', message: /byte length/ });
      assert.throws(() => decode(Buffer.concat([bytes, bytes])), { code: 'FRAME_INVALID' });
    });

    test('rejects another type and another version even with a good checksum', () => {
      for (const [offset, message] of [
        [4, /type/],
        [3, /magic/],
      ] as const) {
        const changed = Buffer.from(bytes);
        changed[offset] = 0x39;
        changed.writeUInt32LE(crc32(changed.subarray(0, -4)), numBytes - 4);
        assert.throws(() => decode(changed), { code: 'FRAME_INVALID', message });
      }
    });
  });
