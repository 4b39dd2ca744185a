/**
 * A `tf.train.Example` (protobuf) → fields, in one pass over its bytes.
 *
 * | message | field | content |
 * |---|---|---|
 * | Example | 1 | Features |
 * | Features | 1 | map entry: 1 name, 2 Feature; repeated |
 * | Feature | 1, 2, 3 | BytesList, FloatList, Int64List |
 * | … List | 1 | values; numbers packed or not |
 *
 * A feature with one value becomes that value; with none or several it becomes a list. Bytes are text. Integers beyond
 * 2^53 become digits.
 * Source: tensorflow/core/example/{example,feature}.proto; https://protobuf.dev/programming-guides/encoding
 */
import { isUtf8 } from 'node:buffer';
import type { SourceFields } from '../../tasks/task.ts';

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

const ENTRY_NAME = 1;
const ENTRY_FEATURE = 2;
const BYTES_LIST = 1;
const FLOAT_LIST = 2;
const INT64_LIST = 3;

export type ParsedExample =
  { readonly ok: true; readonly fields: SourceFields } | { readonly ok: false; readonly reason: string };

/** @param wanted the features to decode; all if empty */
export function parseExample(data: Uint8Array, wanted: readonly string[]): ParsedExample {
  const fields: Record<string, unknown> = {};
  const reader = new Reader(data);
  const end = data.length;
  for (let field = reader.next(end); field !== 0; field = reader.next(end)) {
    if (field !== 1) reader.skip(end);
    else readFeatures(reader, reader.enter(end), wanted, fields);
  }
  const problem = reader.problem();
  return problem === undefined ? { ok: true, fields } : { ok: false, reason: `not a tf.train.Example: ${problem}` };
}

function readFeatures(reader: Reader, end: number, wanted: readonly string[], fields: Record<string, unknown>): void {
  for (let field = reader.next(end); field !== 0; field = reader.next(end)) {
    if (field !== 1) {
      reader.skip(end);
      continue;
    }
    const entryEnd = reader.enter(end);
    let name = '';
    let from = entryEnd;
    let to = entryEnd;
    for (let part = reader.next(entryEnd); part !== 0; part = reader.next(entryEnd)) {
      if (part === ENTRY_NAME) name = reader.text(entryEnd, 'a name');
      else if (part === ENTRY_FEATURE) {
        to = reader.enter(entryEnd);
        from = reader.at;
        reader.at = to;
      } else reader.skip(entryEnd);
    }
    if (reader.problem() !== undefined) return;
    if (wanted.length > 0 && !wanted.includes(name)) continue;
    reader.at = from; // the name may come after the feature
    const values = readFeature(reader, to, name);
    fields[name] = values.length === 1 ? values[0] : values;
    reader.at = entryEnd;
  }
}

function readFeature(reader: Reader, end: number, name: string): unknown[] {
  const values: unknown[] = [];
  for (let kind = reader.next(end); kind !== 0; kind = reader.next(end)) {
    if (kind !== BYTES_LIST && kind !== FLOAT_LIST && kind !== INT64_LIST) {
      reader.skip(end);
      continue;
    }
    const listEnd = reader.enter(end);
    for (let field = reader.next(listEnd); field !== 0; field = reader.next(listEnd)) {
      if (field !== 1) reader.skip(listEnd);
      else if (kind === BYTES_LIST) values.push(reader.text(listEnd, `feature "${name}"`));
      else if (kind === FLOAT_LIST) reader.floats(listEnd, values);
      else reader.integers(listEnd, values);
    }
  }
  return values;
}

/**
 * A cursor over nested messages. `at` is the position; `end` is the end of the current message. The first problem is
 * kept, and it ends all loops.
 */
class Reader {
  readonly #bytes: Buffer;
  at = 0;
  /** Wire type of the current field. */
  #wireType = 0;
  #problem: string | undefined;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** The first problem, if any. */
  problem(): string | undefined {
    return this.#problem;
  }

  /** Moves to the next field. @returns its number; 0 at the end of the message or after a problem */
  next(end: number): number {
    if (this.at >= end || this.#problem !== undefined) return 0;
    const tag = this.#length(end);
    this.#wireType = tag & 7;
    if (tag >>> 3 === 0) this.#fail('field number 0');
    return this.problem() === undefined ? tag >>> 3 : 0;
  }

  /** Enters a field that is a message or bytes. @returns its end */
  enter(end: number): number {
    this.#expect(BYTES);
    const fieldEnd = this.#length(end) + this.at;
    if (fieldEnd <= end) return fieldEnd;
    this.#fail('it is cut short');
    return this.at;
  }

  text(end: number, what: string): string {
    const to = this.enter(end);
    const part = this.#bytes.subarray(this.at, to);
    this.at = to;
    if (!isUtf8(part)) this.#fail(`${what} is not valid UTF-8`);
    return part.toString('utf8');
  }

  floats(end: number, values: unknown[]): void {
    if (this.#wireType === FIXED32) {
      if (this.#has(4, end)) values.push(this.#bytes.readFloatLE(this.at));
      this.at += 4;
      return;
    }
    const to = this.enter(end);
    if ((to - this.at) % 4 !== 0) this.#fail('a list of floats is cut short');
    else for (; this.at < to; this.at += 4) values.push(this.#bytes.readFloatLE(this.at));
  }

  integers(end: number, values: unknown[]): void {
    if (this.#wireType === VARINT) {
      values.push(this.#int64(end));
      return;
    }
    const to = this.enter(end);
    while (this.at < to && this.#problem === undefined) values.push(this.#int64(to));
  }

  skip(end: number): void {
    if (this.#wireType === VARINT) this.#int64(end);
    else if (this.#wireType === BYTES) this.at = this.enter(end);
    else if (this.#wireType === FIXED64 || this.#wireType === FIXED32) {
      const length = this.#wireType === FIXED64 ? 8 : 4;
      if (this.#has(length, end)) this.at += length;
    } else this.#fail(`wire type ${this.#wireType}`);
  }

  #fail(problem: string): void {
    this.#problem ??= problem;
  }

  #has(length: number, end: number): boolean {
    if (this.at + length <= end) return true;
    this.#fail('it is cut short');
    return false;
  }

  #expect(wireType: number): void {
    if (this.#wireType !== wireType) this.#fail(`wire type ${this.#wireType} where ${wireType} was expected`);
  }

  /** A varint of up to 32 bits: a tag or a length. */
  #length(end: number): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      if (!this.#has(1, end)) return 0;
      const byte = this.#bytes[this.at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    this.#fail('a length of more than 32 bits');
    return 0;
  }

  #int64(end: number): number | string {
    let value = 0;
    // Four bytes hold 28 bits. Only large or negative numbers need more.
    for (let i = 0; i < 4; i++) {
      const byte = this.#bytes[this.at + i];
      if (byte === undefined || this.at + i >= end) break;
      value |= (byte & 0x7f) << (7 * i);
      if (byte >= 0x80) continue;
      this.at += i + 1;
      return value;
    }
    return this.#largeInt64(end);
  }

  #largeInt64(end: number): number | string {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (!this.#has(1, end)) return 0;
      const byte = this.#bytes[this.at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      const signed = BigInt.asIntN(64, value);
      return Number.isSafeInteger(Number(signed)) ? Number(signed) : String(signed);
    }
    this.#fail('a number of more than 10 bytes');
    return 0;
  }
}
