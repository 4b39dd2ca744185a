/**
 * The 48-byte header of a tensor frame. A frame is one binary WebSocket message: this header, then `byteLength` payload bytes
 * (float32 or bfloat16, little endian). Integers are little endian; the payload starts at a multiple of 8.
 *
 * | offset | type | field |
 * |---|---|---|
 * | 0 | u32 | magic 0x314d5845, "EXM1" |
 * | 4 | u8 | type: 1 part (a cover node's partial sum, to the owner of the chunk), 2 sum (the finished chunk, from its owner); + 128: the payload's position in the sender's outbox (u64) follows in its place |
 * | 5 | u8 | node: which cover node of the sender, in lane order; 0 for a sum |
 * | 6 | u16 | chunk: rank that owns and reduces it |
 * | 8 | u32 | epoch of the run |
 * | 12 | u32 | generation |
 * | 16 | u32 | step |
 * | 20 | u32 | bucket |
 * | 24 | u32 | part: piece of the chunk |
 * | 28 | u32 | byteLength of the payload |
 * | 32 | u64 | offset of the piece in the flat gradient (float32), bytes |
 * | 40 | u32 | checksum of the payload (line-checksum.ts), or 0 where verification is off |
 * | 44 | u32 | crc32 of bytes 0 … 43 |
 */
import { crc32 } from 'node:zlib';
import { TrainerError } from '../../shared/errors.ts';

export const FRAME_HEADER_BYTES = 48;
const MAGIC = 0x314d5845;
const CHECKED_BYTES = 44;

const STORED = 128;
export const FRAME_PART = 1;
export const FRAME_SUM = 2;
export type FrameType = typeof FRAME_PART | typeof FRAME_SUM;

/** All fields of a frame but the payload's checksum: the receiver knows them beforehand. */
export interface FrameFields {
  readonly type: FrameType;
  readonly node: number;
  readonly chunk: number;
  readonly epoch: number;
  readonly generation: number;
  readonly step: number;
  readonly bucket: number;
  readonly part: number;
  readonly byteLength: number;
  readonly offsetBytes: number;
}

export interface FrameHeader extends FrameFields {
  readonly payloadChecksum: number;
}

/** @param isStored the position of the payload in the sender's outbox follows, not the payload */
export function encodeFrameHeader(header: FrameHeader, isStored = false): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES);
  bytes.writeUInt32LE(MAGIC, 0);
  bytes.writeUInt8(header.type | (isStored ? STORED : 0), 4);
  bytes.writeUInt8(header.node, 5);
  bytes.writeUInt16LE(header.chunk, 6);
  bytes.writeUInt32LE(header.epoch, 8);
  bytes.writeUInt32LE(header.generation, 12);
  bytes.writeUInt32LE(header.step, 16);
  bytes.writeUInt32LE(header.bucket, 20);
  bytes.writeUInt32LE(header.part, 24);
  bytes.writeUInt32LE(header.byteLength, 28);
  bytes.writeUInt32LE(header.offsetBytes % 2 ** 32, 32);
  bytes.writeUInt32LE(Math.floor(header.offsetBytes / 2 ** 32), 36);
  bytes.writeUInt32LE(header.payloadChecksum, 40);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, CHECKED_BYTES)), 44);
  return bytes;
}

/** @throws FRAME_INVALID for a wrong length, magic, header checksum or type */
export function decodeFrameHeader(data: Uint8Array): FrameHeader {
  if (data.byteLength !== FRAME_HEADER_BYTES)
    throw new TrainerError(
      'FRAME_INVALID',
      `frame header: expected ${FRAME_HEADER_BYTES} B, got ${data.byteLength} B; the peer speaks another version or is no worker`,
    );
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const magic = bytes.readUInt32LE(0);
  if (magic !== MAGIC)
    throw new TrainerError(
      'FRAME_INVALID',
      `frame header: expected magic 0x${MAGIC.toString(16)}, got 0x${magic.toString(16)}; the peer speaks another version or is no worker`,
    );
  const expected = crc32(bytes.subarray(0, CHECKED_BYTES));
  const found = bytes.readUInt32LE(44);
  if (found !== expected)
    throw new TrainerError(
      'FRAME_INVALID',
      `frame header: expected crc32 ${expected}, got ${found}; bytes were changed on the way`,
    );
  const type = bytes.readUInt8(4) & ~STORED;
  if (type !== FRAME_PART && type !== FRAME_SUM)
    throw new TrainerError('FRAME_INVALID', `frame header: expected type 1 (part) or 2 (sum), got ${type}`);
  return {
    type,
    node: bytes.readUInt8(5),
    chunk: bytes.readUInt16LE(6),
    epoch: bytes.readUInt32LE(8),
    generation: bytes.readUInt32LE(12),
    step: bytes.readUInt32LE(16),
    bucket: bytes.readUInt32LE(20),
    part: bytes.readUInt32LE(24),
    byteLength: bytes.readUInt32LE(28),
    offsetBytes: bytes.readUInt32LE(36) * 2 ** 32 + bytes.readUInt32LE(32),
    payloadChecksum: bytes.readUInt32LE(40),
  };
}

/** For a header that `decodeFrameHeader` accepted: the position of the payload in the sender's outbox follows. */
export function isStoredFrame(data: Uint8Array): boolean {
  return (data[4]! & STORED) !== 0;
}

/** `part of bucket 3 chunk 1 part 0 node 0: 65536 B at 1048576 (epoch 1, generation 7, step 412)` */
export function describeFrame(frame: FrameFields): string {
  const kind = frame.type === FRAME_PART ? 'part' : 'sum';
  return (
    `${kind} of bucket ${frame.bucket} chunk ${frame.chunk} part ${frame.part} node ${frame.node}: ` +
    `${frame.byteLength} B at ${frame.offsetBytes} (epoch ${frame.epoch}, generation ${frame.generation}, step ${frame.step})`
  );
}
