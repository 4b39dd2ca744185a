/**
 * A `tf.train.Example` (protobuf) → fields.
 *
 * | message | field | content |
 * |---|---|---|
 * | Example | 1 | Features |
 * | Features | 1 | map entry: 1 name, 2 Feature; repeated |
 * | Feature | 1, 2, 3 | BytesList, FloatList, Int64List |
 * | … List | 1 | values; numbers packed or not |
 *
 * A feature of one value is that value, of none or several a list of them. Bytes are text; whole numbers beyond 2^53 are their digits.
 * Source: tensorflow/core/example/{example,feature}.proto; https://protobuf.dev/programming-guides/encoding
 */
import { isUtf8 } from 'node:buffer';
import type { SourceFields } from '../../tasks/task.ts';

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

const BYTES_LIST = 1;
const FLOAT_LIST = 2;
const INT64_LIST = 3;

export type ParsedExample =
  { readonly ok: true; readonly fields: SourceFields } | { readonly ok: false; readonly reason: string };

/** Why a message cannot be read; caught in `parseExample`. */
class MessageDamaged extends Error {}

/** @param wanted only these features are decoded; all where it is empty */
export function parseExample(data: Uint8Array, wanted: readonly string[]): ParsedExample {
  const fields: Record<string, unknown> = {};
  try {
    for (const features of new Message(data).each(1))
      for (const entry of features.each(1)) {
        const name = entry.text(1);
        if (wanted.length > 0 && !wanted.includes(name)) continue;
        const values = readFeature(entry.message(2), name);
        fields[name] = values.length === 1 ? values[0] : values;
      }
  } catch (error) {
    if (error instanceof MessageDamaged) return { ok: false, reason: `not a tf.train.Example: ${error.message}` };
    throw error;
  }
  return { ok: true, fields };
}

function readFeature(feature: Message | undefined, name: string): unknown[] {
  const values: unknown[] = [];
  if (feature === undefined) return values;
  for (const list of feature.each(BYTES_LIST))
    for (const value of list.each(1)) values.push(value.asText(`feature "${name}"`));
  for (const list of feature.each(FLOAT_LIST)) values.push(...list.floats(1));
  for (const list of feature.each(INT64_LIST)) values.push(...list.integers(1));
  return values;
}

/** Reads one message; every access walks it from its start, for messages are small and flat. */
class Message {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  asText(what: string): string {
    if (!isUtf8(this.#bytes)) throw new MessageDamaged(`${what} is not valid UTF-8`);
    return this.#bytes.toString('utf8');
  }

  /** The fields of that number that hold messages, text or bytes. */
  *each(field: number): Generator<Message> {
    for (const wireType of this.#fields(field)) {
      this.#expect(wireType, BYTES);
      yield new Message(this.#take(this.#length()));
    }
  }

  message(field: number): Message | undefined {
    let last: Message | undefined;
    for (const message of this.each(field)) last = message;
    return last;
  }

  text(field: number): string {
    return this.message(field)?.asText('a name') ?? '';
  }

  *floats(field: number): Generator<number> {
    for (const wireType of this.#fields(field)) {
      if (wireType === BYTES) {
        const packed = this.#take(this.#length());
        if (packed.length % 4 !== 0) throw new MessageDamaged('a list of floats is cut short');
        for (let at = 0; at < packed.length; at += 4) yield packed.readFloatLE(at);
      } else {
        this.#expect(wireType, FIXED32);
        yield this.#take(4).readFloatLE(0);
      }
    }
  }

  *integers(field: number): Generator<number | string> {
    for (const wireType of this.#fields(field)) {
      if (wireType === BYTES) {
        const packed = new Message(this.#take(this.#length()));
        while (packed.#at < packed.#bytes.length) yield packed.#int64();
      } else {
        this.#expect(wireType, VARINT);
        yield this.#int64();
      }
    }
  }

  /** Stops at each field of that number, with its wire type; steps over all others. */
  *#fields(wanted: number): Generator<number> {
    this.#at = 0;
    while (this.#at < this.#bytes.length) {
      const tag = this.#length();
      const wireType = tag & 7;
      if (tag >>> 3 === 0) throw new MessageDamaged('field number 0');
      if (tag >>> 3 === wanted) yield wireType;
      else if (wireType === BYTES) this.#take(this.#length());
      else if (wireType === VARINT) this.#int64();
      else if (wireType === FIXED64) this.#take(8);
      else if (wireType === FIXED32) this.#take(4);
      else throw new MessageDamaged(`wire type ${wireType}`);
    }
  }

  #expect(found: number, expected: number): void {
    if (found !== expected) throw new MessageDamaged(`wire type ${found} where ${expected} was expected`);
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length) throw new MessageDamaged('it is cut short');
    const part = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return part;
  }

  /** A varint of up to 32 bits: a tag or a length. */
  #length(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#take(1)[0]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new MessageDamaged('a length of more than 32 bits');
  }

  #int64(): number | string {
    let value = 0;
    let at = this.#at;
    // Up to 4 bytes it fits into 28 bits; more only for large or negative numbers.
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#bytes[at++];
      if (byte === undefined) throw new MessageDamaged('it is cut short');
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) {
        this.#at = at;
        return value;
      }
    }
    return this.#largeInt64();
  }

  #largeInt64(): number | string {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#take(1)[0]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      const signed = BigInt.asIntN(64, value);
      return Number.isSafeInteger(Number(signed)) ? Number(signed) : String(signed);
    }
    throw new MessageDamaged('a number of more than 10 bytes');
  }
}
