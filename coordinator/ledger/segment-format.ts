/**
 * The bytes of a segment: one file of the ledger, written by one session of a run. Pure.
 *
 * | part    | bytes                                                                                                       |
 * |---------|-------------------------------------------------------------------------------------------------------------|
 * | header  | `EXMIXLG2` · u32 length of the JSON · JSON (`SegmentHeader`) · u32 CRC-32 of all before                      |
 * | records | each: u32 length of the payload, ≥ 1 · u32 CRC-32 of length and payload · payload (step-record.ts)           |
 * | seal    | u32 0 · u32 number of records · SHA-256 of all bytes before the seal, 32 B · u32 CRC-32 of these 40 bytes    |
 *
 * Numbers are little-endian. The writer seals a segment when it is full or its session ends; after a kill, the next session seals it.
 * Each header holds the SHA-256 of the whole file of the segment before it, so a missing segment is detected.
 */
import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { z } from 'zod';
import { assertInvariant } from '../../shared/errors.ts';
import { stepOf } from './step-record.ts';

/** The last byte is the version of the format. */
const MAGIC = Buffer.from('EXMIXLG2');
/** Version 1 had rows in an adaptive entropy code. */
const MAGIC_1 = Buffer.from('EXMIXLG1');
const FRAME_BYTES = 8;
const SEAL_BYTES = 44;
/** Payload of one record; a longer one is damage. */
const MAX_RECORD_BYTES = 64 * 1024 * 1024;

const count = z.int().nonnegative();

export const segmentHeaderSchema = z.strictObject({
  /** From 1, without a gap in a run folder. */
  segment: z.int().positive(),
  /** Of the coordinator that wrote it. */
  epoch: z.int().positive(),
  /** Step of its first record. */
  firstStep: z.int().positive(),
  /** Key of the order of the examples. */
  seed: count,
  mixtureHash: z.string(),
  /** Name and number of examples, in the order of the mixture. */
  tasks: z.array(z.tuple([z.string(), count])),
  /** The state that the session started from (`SessionStart`). */
  from: z.strictObject({
    step: count,
    checkpoint: z.string().nullable(),
    firstDraws: z.array(count),
    isInsideWindow: z.boolean(),
  }),
  /** SHA-256 of the file of the previous segment; null for the first. */
  previous: z
    .string()
    .regex(/^[0-9a-f]{64}$/u)
    .nullable(),
});
export type SegmentHeader = z.output<typeof segmentHeaderSchema>;

/** The contents of a segment. */
export interface ParsedSegment {
  readonly header: SegmentHeader;
  readonly records: readonly SegmentRecord[];
  /** Bytes of header and whole records. */
  readonly wholeBytes: number;
  readonly isSealed: boolean;
  /** Why the bytes after `wholeBytes` are no record; absent where none, or a valid seal, follow. */
  readonly damage?: string;
}

export interface SegmentRecord {
  readonly payload: Buffer;
  /** Offset of the record in the file. */
  readonly start: number;
}

export function encodeHeader(header: SegmentHeader): Buffer {
  const json = Buffer.from(JSON.stringify(header));
  const head = Buffer.concat([MAGIC, uint32(json.length), json]);
  return Buffer.concat([head, uint32(crc32(head))]);
}

export function encodeFrame(payload: Buffer): Buffer {
  assertInvariant(payload.length <= MAX_RECORD_BYTES, `a record of ${payload.length} B`);
  const length = uint32(payload.length);
  return Buffer.concat([length, uint32(crc32(payload, crc32(length))), payload]);
}

/** @param sha256 of all bytes before the seal */
export function encodeSeal(numRecords: number, sha256: Buffer): Buffer {
  const seal = Buffer.concat([uint32(0), uint32(numRecords), sha256]);
  return Buffer.concat([seal, uint32(crc32(seal))]);
}

/** Whether the bytes begin like a segment of an older version of the format. */
export function isOlderFormat(bytes: Buffer): boolean {
  return bytes.subarray(0, MAGIC_1.length).equals(MAGIC_1);
}

/** @returns the header and the offset of the first record, or a sentence why there is no header */
export function parseHeader(bytes: Buffer): { readonly header: SegmentHeader; readonly end: number } | string {
  const jsonStart = MAGIC.length + 4;
  if (bytes.length < jsonStart) return `${bytes.length} B are too few for a header`;
  if (!bytes.subarray(0, MAGIC.length).equals(MAGIC)) return 'the file does not begin like a segment of a ledger';
  const jsonEnd = jsonStart + bytes.readUInt32LE(MAGIC.length);
  if (jsonEnd + 4 > bytes.length) return 'the header does not end';
  const [expected, found] = [bytes.readUInt32LE(jsonEnd), crc32(bytes.subarray(0, jsonEnd))];
  if (expected !== found) return `header: expected CRC-32 ${hex(expected)}, found ${hex(found)}`;
  const parsed = segmentHeaderSchema.safeParse(JSON.parse(bytes.toString('utf8', jsonStart, jsonEnd)));
  if (!parsed.success) return `header: ${z.prettifyError(parsed.error)}`;
  if (parsed.data.from.firstDraws.length !== parsed.data.tasks.length)
    return 'header: expected a first draw of each task';
  return { header: parsed.data, end: jsonEnd + 4 };
}

/** Whether the file ends before its header does. */
export function endsInHeader(bytes: Buffer): boolean {
  const jsonStart = MAGIC.length + 4;
  if (!MAGIC.subarray(0, bytes.length).equals(bytes.subarray(0, MAGIC.length))) return false;
  return bytes.length < jsonStart || bytes.length < jsonStart + bytes.readUInt32LE(MAGIC.length) + 4;
}

/** @returns the contents, or a sentence why there is no header */
export function parseSegment(bytes: Buffer): ParsedSegment | string {
  const start = parseHeader(bytes);
  if (typeof start === 'string') return start;
  const { header } = start;
  const records: SegmentRecord[] = [];
  let at = start.end;
  while (at < bytes.length) {
    const open = { header, records, wholeBytes: at, isSealed: false };
    if (bytes.length - at < FRAME_BYTES) return { ...open, damage: 'a record that does not end' };
    const length = bytes.readUInt32LE(at);
    if (length === 0) {
      const damage = checkSeal(bytes, at, records.length);
      return damage === undefined ? { ...open, isSealed: true } : { ...open, damage };
    }
    const end = at + FRAME_BYTES + length;
    if (length > MAX_RECORD_BYTES || end > bytes.length) return { ...open, damage: 'a record that does not end' };
    const payload = bytes.subarray(at + FRAME_BYTES, end);
    const [expected, found] = [bytes.readUInt32LE(at + 4), crc32(payload, crc32(bytes.subarray(at, at + 4)))];
    if (expected !== found)
      return { ...open, damage: `a record with CRC-32 ${hex(found)} in place of ${hex(expected)}` };
    const step = header.firstStep + records.length;
    if (length < 4 || stepOf(payload) !== step) return { ...open, damage: `a record that is not of step ${step}` };
    records.push({ payload, start: at });
    at = end;
  }
  return { header, records, wholeBytes: at, isSealed: false };
}

/** @returns a sentence why the bytes are no valid seal */
function checkSeal(bytes: Buffer, at: number, numRecords: number): string | undefined {
  const seal = bytes.subarray(at);
  if (seal.length !== SEAL_BYTES || seal.readUInt32LE(SEAL_BYTES - 4) !== crc32(seal.subarray(0, SEAL_BYTES - 4)))
    return 'neither a record nor a whole seal';
  if (seal.readUInt32LE(4) !== numRecords)
    return `the seal counts ${seal.readUInt32LE(4)} records, found ${numRecords}`;
  const found = sha256Of(bytes.subarray(0, at));
  const expected = seal.subarray(8, 40);
  return found.equals(expected)
    ? undefined
    : `expected SHA-256 ${expected.toString('hex')}, found ${found.toString('hex')}`;
}

export function sha256Of(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest();
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function hex(value: number): string {
  return value.toString(16).padStart(8, '0');
}
