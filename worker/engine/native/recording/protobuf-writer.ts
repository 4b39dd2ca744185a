/**
 * Writes protocol-buffer messages: the four wire types that TensorFlow's graph messages need.
 * Fields appear in the order of the calls. Source: protobuf.dev/programming-guides/encoding.
 */

const WIRE = { varint: 0, bytes: 2, fixed32: 5 } as const;

export class ProtobufWriter {
  readonly #parts: Uint8Array[] = [];
  #numBytes = 0;

  /** int32, int64, enum and bool; negative numbers take ten bytes. @param value a safe integer */
  integer(field: number, value: number | boolean): this {
    this.#tag(field, WIRE.varint);
    this.#varint(BigInt(Number(value)));
    return this;
  }

  float(field: number, value: number): this {
    this.#tag(field, WIRE.fixed32);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    return this.#append(bytes);
  }

  /** The bytes are not copied before `finish`. */
  bytes(field: number, value: Uint8Array | string): this {
    const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value;
    this.#tag(field, WIRE.bytes);
    this.#varint(BigInt(bytes.length));
    return this.#append(bytes);
  }

  message(field: number, value: ProtobufWriter): this {
    this.#tag(field, WIRE.bytes);
    this.#varint(BigInt(value.#numBytes));
    for (const part of value.#parts) this.#append(part);
    return this;
  }

  finish(): Uint8Array {
    const all = new Uint8Array(this.#numBytes);
    let offset = 0;
    for (const part of this.#parts) {
      all.set(part, offset);
      offset += part.length;
    }
    return all;
  }

  #tag(field: number, wire: number): void {
    this.#varint(BigInt(field * 8 + wire));
  }

  #varint(value: bigint): void {
    const bytes: number[] = [];
    let rest = BigInt.asUintN(64, value);
    do {
      const low = Number(rest & 127n);
      rest >>= 7n;
      bytes.push(rest === 0n ? low : low | 128);
    } while (rest !== 0n);
    this.#append(Uint8Array.from(bytes));
  }

  #append(bytes: Uint8Array): this {
    this.#parts.push(bytes);
    this.#numBytes += bytes.length;
    return this;
  }
}
