/**
 * A TFRecord file of tf.train.Example (TFDS, seqio caches) → batches of records, streaming, in bounded memory.
 *
 * A file is a sequence of frames:
 *
 * | bytes | content |
 * |---|---|
 * | 8 | length of the data, little-endian |
 * | 4 | masked CRC-32C of these 8 bytes |
 * | length | data |
 * | 4 | masked CRC-32C of the data |
 *
 * Source: https://www.tensorflow.org/tutorials/load_data/tfrecord
 */
import { TrainerError } from '../../../shared/errors.ts';
import { decodeContent } from '../decode-content.ts';
import { streamBytes, type SourceFileBytes } from '../source-file.ts';
import type { RecordBatch, SourceRecord, UnitOptions } from '../source-record.ts';
import { maskedCrc32c } from './crc32c.ts';
import { parseExample } from './example-message.ts';

const HEADER_BYTES = 12;
const FOOTER_BYTES = 4;

/** @throws SOURCE_UNREADABLE, ABORTED */
export async function* readTfrecords(file: SourceFileBytes, options: UnitOptions): AsyncGenerator<RecordBatch> {
  const frames = new FrameReader(file.name, options.maxRecordBytes);
  let row = 0;
  const { chunks } = await decodeContent(streamBytes(file, options), file.name, 'tfrecord');
  for await (const chunk of chunks) {
    const batch = frames.push(chunk).map((frame) => toRecord(frame, file.name, ++row, options.requiredFields));
    if (batch.length > 0) yield batch;
  }
  frames.end();
}

function toRecord(frame: RecordFrame, file: string, row: number, wanted: readonly string[]): SourceRecord {
  const parsed = frame.ok ? parseExample(frame.data, wanted) : frame;
  return parsed.ok ? { file, row, ...parsed } : { file, row, rows: 1, ...parsed };
}

export type RecordFrame =
  | { readonly ok: true; readonly data: Uint8Array }
  /** Longer than the bound: skipped, not kept. */
  | { readonly ok: false; readonly reason: string };

export class FrameReader {
  readonly #name: string;
  readonly #maxRecordBytes: number;
  /** Bytes that were pushed and not used yet. */
  #parts: Uint8Array[] = [];
  #available = 0;
  /** Length of the current frame's data. Undefined between frames. */
  #length: number | undefined;
  /** Bytes still to skip of a record that is too long. */
  #toSkip = 0;
  #numFrames = 0;
  #at = 0;

  /** @param name of the file, for messages */
  constructor(name: string, maxRecordBytes: number) {
    this.#name = name;
    this.#maxRecordBytes = maxRecordBytes;
  }

  /** The frames that end inside `chunk`. @throws SOURCE_UNREADABLE if a checksum is wrong */
  push(chunk: Uint8Array): RecordFrame[] {
    this.#parts.push(chunk);
    this.#available += chunk.length;
    const frames: RecordFrame[] = [];
    for (;;) {
      if (this.#toSkip > 0) {
        const numSkipped = Math.min(this.#toSkip, this.#available);
        this.#drop(numSkipped);
        this.#toSkip -= numSkipped;
        if (this.#toSkip > 0) return frames;
      }
      if (this.#length === undefined) {
        if (this.#available < HEADER_BYTES) return frames;
        const length = this.#readHeader();
        if (length > this.#maxRecordBytes) {
          frames.push({ ok: false, reason: `the record is longer than ${this.#maxRecordBytes} B` });
          this.#toSkip = length + FOOTER_BYTES;
          continue;
        }
        this.#length = length;
      }
      if (this.#available < this.#length + FOOTER_BYTES) return frames;
      frames.push({ ok: true, data: this.#readData(this.#length) });
      this.#length = undefined;
    }
  }

  /** @throws SOURCE_UNREADABLE if the file ends inside a record */
  end(): void {
    if (this.#available === 0 && this.#toSkip === 0 && this.#length === undefined) return;
    throw new TrainerError(
      'SOURCE_UNREADABLE',
      `source file ${this.#name} cannot be read: it is truncated inside record ${this.#numFrames + (this.#length === undefined ? 1 : 0)}, after byte ${this.#at}; download or write it again`,
    );
  }

  #readHeader(): number {
    const header = this.#read(HEADER_BYTES);
    this.#numFrames += 1;
    const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
    this.#check(header.subarray(0, 8), view.getUint32(8, true), 'length');
    const length = view.getBigUint64(0, true);
    if (length > BigInt(Number.MAX_SAFE_INTEGER)) throw this.#damaged('length');
    return Number(length);
  }

  #readData(length: number): Uint8Array {
    const bytes = this.#read(length + FOOTER_BYTES);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const data = bytes.subarray(0, length);
    this.#check(data, view.getUint32(length, true), 'data');
    return data;
  }

  #check(bytes: Uint8Array, expected: number, what: string): void {
    if (maskedCrc32c(bytes) !== expected) throw this.#damaged(what);
  }

  #damaged(what: string): TrainerError {
    return new TrainerError(
      'SOURCE_UNREADABLE',
      `source file ${this.#name} cannot be read: the checksum of the ${what} of record ${this.#numFrames}, before byte ${this.#at}, is wrong: ` +
        'it is damaged or not a TFRecord file',
    );
  }

  /** The next bytes, contiguous. */
  #read(length: number): Uint8Array {
    const first = this.#parts[0];
    if (first !== undefined && first.length >= length) {
      this.#drop(length);
      return first.subarray(0, length);
    }
    const bytes = Buffer.concat(this.#parts).subarray(0, length);
    this.#drop(length);
    return bytes;
  }

  #drop(length: number): void {
    this.#available -= length;
    this.#at += length;
    let left = length;
    while (left > 0) {
      const first = this.#parts[0]!;
      if (first.length > left) this.#parts[0] = first.subarray(left);
      else this.#parts.shift();
      left -= Math.min(left, first.length);
    }
  }
}
