/**
 * The part of the protobuf wire format that a SentencePiece model needs: read fields one by one, write messages.
 *
 * Assumptions: proto2 messages; integers are int32, enum or bool (the low 32 bits of a varint hold their value).
 * Source: https://protobuf.dev/programming-guides/encoding
 *
 * | wire type | payload |
 * |---|---|
 * | 0 | varint, 1–10 bytes, 7 bits in a byte, low bits first |
 * | 1 | 8 bytes |
 * | 2 | varint length, then that many bytes |
 * | 5 | 4 bytes, little-endian |
 */
import { TrainerError } from '../../shared/errors.ts';

const WIRE_VARINT = 0;
const WIRE_FIXED64 = 1;
const WIRE_BYTES = 2;
const WIRE_FIXED32 = 5;

const utf8Strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const utf8Encoder = new TextEncoder();

/** A cursor over the fields of one message. */
export class MessageReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #where: string;
  #at = 0;
  #wireType = 0;
  /** Number of the current field. */
  field = 0;

  /** @param where names the input in messages: `/data/spiece.model: piece 17` */
  constructor(bytes: Uint8Array, where: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#where = where;
  }

  /** Moves to the next field. False at the end of the message. @throws TOKENIZER_INVALID */
  next(): boolean {
    if (this.#at === this.#bytes.length) return false;
    const tag = this.#varint() >>> 0;
    this.field = tag >>> 3;
    this.#wireType = tag & 7;
    if (this.field === 0) throw this.#invalid('field number 0');
    return true;
  }

  /** The field's int32. @throws TOKENIZER_INVALID */
  int32(): number {
    this.#expect(WIRE_VARINT);
    return this.#varint();
  }

  /** @throws TOKENIZER_INVALID */
  bool(): boolean {
    return this.int32() !== 0;
  }

  /** @throws TOKENIZER_INVALID */
  float(): number {
    this.#expect(WIRE_FIXED32);
    const at = this.#advance(4);
    return this.#view.getFloat32(at, true);
  }

  /** The field's bytes, as a view. @throws TOKENIZER_INVALID */
  bytes(): Uint8Array {
    this.#expect(WIRE_BYTES);
    const length = this.#varint() >>> 0;
    const at = this.#advance(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** @throws TOKENIZER_INVALID, also if the bytes are not UTF-8 */
  string(): string {
    const bytes = this.bytes();
    try {
      return utf8Strict.decode(bytes);
    } catch (cause) {
      throw new TrainerError('TOKENIZER_INVALID', `${this.#where}: field ${this.field} is not valid UTF-8`, { cause });
    }
  }

  /** Skips the current field. @throws TOKENIZER_INVALID */
  skip(): void {
    switch (this.#wireType) {
      case WIRE_VARINT:
        this.#varint();
        return;
      case WIRE_FIXED64:
        this.#advance(8);
        return;
      case WIRE_BYTES:
        this.bytes();
        return;
      case WIRE_FIXED32:
        this.#advance(4);
        return;
      default:
        throw this.#invalid(`wire type ${this.#wireType}`);
    }
  }

  #expect(wireType: number): void {
    if (this.#wireType !== wireType) {
      throw this.#invalid(`wire type ${this.#wireType} where ${wireType} was expected`);
    }
  }

  #advance(length: number): number {
    const at = this.#at;
    if (length > this.#bytes.length - at) {
      throw this.#invalid(`${length} B expected, ${this.#bytes.length - at} B left: the file is truncated or damaged`);
    }
    this.#at = at + length;
    return at;
  }

  /** Low 32 bits of a varint, signed. */
  #varint(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#bytes[this.#advance(1)]!;
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw this.#invalid('a varint of more than 10 bytes');
  }

  #invalid(found: string): TrainerError {
    return new TrainerError(
      'TOKENIZER_INVALID',
      `${this.#where}: not a SentencePiece model at byte ${this.#at}, field ${this.field}: ${found}`,
    );
  }
}

/** Collects the fields of one message, in call order. */
export class MessageWriter {
  readonly #parts: Uint8Array[] = [];

  int32(field: number, value: number): this {
    this.#tag(field, WIRE_VARINT);
    this.#varint(BigInt.asUintN(64, BigInt(value)));
    return this;
  }

  bool(field: number, value: boolean): this {
    return this.int32(field, value ? 1 : 0);
  }

  float(field: number, value: number): this {
    this.#tag(field, WIRE_FIXED32);
    const part = new Uint8Array(4);
    new DataView(part.buffer).setFloat32(0, value, true);
    this.#parts.push(part);
    return this;
  }

  bytes(field: number, value: Uint8Array): this {
    this.#tag(field, WIRE_BYTES);
    this.#varint(BigInt(value.length));
    this.#parts.push(value);
    return this;
  }

  string(field: number, value: string): this {
    return this.bytes(field, utf8Encoder.encode(value));
  }

  finish(): Uint8Array {
    return Buffer.concat(this.#parts);
  }

  #tag(field: number, wireType: number): void {
    this.#varint(BigInt((field << 3) | wireType));
  }

  #varint(value: bigint): void {
    const part: number[] = [];
    let rest = value;
    while (rest > 0x7fn) {
      part.push(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    part.push(Number(rest));
    this.#parts.push(Uint8Array.from(part));
  }
}
