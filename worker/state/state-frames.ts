/**
 * The two messages of a state connection. Integers are little endian; the "1" of the magic is the version.
 *
 * A request, from the receiver:
 *
 * | offset | type | field |
 * |---|---|---|
 * | 0 | u32 | magic 0x31535845, "EXS1" |
 * | 4 | u32 | type: 1 |
 * | 8 | u32 | step that the state must be at |
 * | 12 | u32 | piece: its number (state-pieces.ts) |
 * | 16 | u32 | layout: CRC-32 of the receiver's names and lengths |
 * | 20 | u32 | CRC-32 of bytes 0 … 19 |
 *
 * A piece, from the holder: this header, then `byteLength` payload bytes (float32).
 *
 * | offset | type | field |
 * |---|---|---|
 * | 0 | u32 | magic 0x31535845, "EXS1" |
 * | 4 | u32 | type: 2 |
 * | 8 | u32 | step that the state is at |
 * | 12 | u32 | piece: its number |
 * | 16 | u32 | byteLength of the payload |
 * | 20 | u32 | CRC-32 of the payload |
 * | 24 | u32 | CRC-32 of bytes 0 … 23 |
 */
import { crc32 } from 'node:zlib';
import { TrainerError } from '../../shared/errors.ts';
import { STATE_REQUEST_BYTES } from '../mesh/data-port.ts';
export const PIECE_HEADER_BYTES = 28;
/** Most requests to one holder that are not answered yet. */
export const STATE_WINDOW = 4;

const MAGIC = 0x31535845;
const REQUEST = 1;
const PIECE = 2;

export interface StateRequest {
  readonly step: number;
  readonly piece: number;
  readonly layout: number;
}

export interface PieceHeader {
  readonly step: number;
  readonly piece: number;
  readonly byteLength: number;
  readonly payloadChecksum: number;
}

export function encodeStateRequest({ step, piece, layout }: StateRequest): Buffer {
  return encode([MAGIC, REQUEST, step, piece, layout]);
}

/** @throws FRAME_INVALID for a wrong length, magic, type or checksum */
export function decodeStateRequest(message: Uint8Array): StateRequest {
  const [step, piece, layout] = decode('state request', message, STATE_REQUEST_BYTES, REQUEST);
  return { step: step!, piece: piece!, layout: layout! };
}

export function encodePieceHeader({ step, piece, byteLength, payloadChecksum }: PieceHeader): Buffer {
  return encode([MAGIC, PIECE, step, piece, byteLength, payloadChecksum]);
}

/** @throws FRAME_INVALID for a wrong length, magic, type or checksum */
export function decodePieceHeader(bytes: Uint8Array): PieceHeader {
  const [step, piece, byteLength, payloadChecksum] = decode('header of a piece', bytes, PIECE_HEADER_BYTES, PIECE);
  return { step: step!, piece: piece!, byteLength: byteLength!, payloadChecksum: payloadChecksum! };
}

/** The words and their checksum. */
function encode(words: readonly number[]): Buffer {
  const bytes = Buffer.allocUnsafe(4 * words.length + 4);
  for (const [i, word] of words.entries()) bytes.writeUInt32LE(word, 4 * i);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, -4)), 4 * words.length);
  return bytes;
}

/** The words between type and checksum. */
function decode(what: string, data: Uint8Array, numBytes: number, type: number): number[] {
  const check = (name: string, expected: number, found: number): void => {
    if (found !== expected)
      throw new TrainerError(
        'FRAME_INVALID',
        `${what}: expected ${name} ${expected}, got ${found}; the peer speaks another version, or bytes were changed on the way`,
      );
  };
  check('byte length', numBytes, data.byteLength);
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const words = Array.from({ length: numBytes / 4 }, (_, i) => bytes.readUInt32LE(4 * i));
  check('magic', MAGIC, words[0]!);
  check('crc32', crc32(bytes.subarray(0, -4)), words.at(-1)!);
  check('type', type, words[1]!);
  return words.slice(2, -1);
}
