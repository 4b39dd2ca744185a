/** Writes TFRecord files of tf.train.Example for tests, by the layouts of read-tfrecords.ts and example-message.ts. */
import { maskedCrc32c } from './crc32c.ts';

export type FeatureValue =
  readonly (string | Uint8Array)[] | { readonly ints: readonly number[] } | { readonly floats: readonly number[] };

/** Frames of a whole file. */
export function writeTfrecords(records: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(
    records.flatMap((data) => {
      const header = Buffer.alloc(12);
      header.writeBigUInt64LE(BigInt(data.length));
      header.writeUInt32LE(maskedCrc32c(header.subarray(0, 8)), 8);
      const footer = Buffer.alloc(4);
      footer.writeUInt32LE(maskedCrc32c(data));
      return [header, data, footer];
    }),
  );
}

export function writeExample(features: Readonly<Record<string, FeatureValue>>): Uint8Array {
  const entries = Object.entries(features).map(([name, value]) =>
    field(1, Buffer.concat([field(1, Buffer.from(name)), field(2, feature(value))])),
  );
  return field(1, Buffer.concat(entries));
}

function feature(value: FeatureValue): Buffer {
  if ('ints' in value)
    return field(3, field(1, Buffer.concat(value.ints.map((int) => varint(BigInt.asUintN(64, BigInt(int)))))));
  if ('floats' in value) {
    const floats = Buffer.alloc(4 * value.floats.length);
    for (const [i, float] of value.floats.entries()) floats.writeFloatLE(float, 4 * i);
    return field(2, field(1, floats));
  }
  return field(1, Buffer.concat(value.map((text) => field(1, Buffer.from(text as Uint8Array)))));
}

/** Field of wire type 2. */
function field(number: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([varint(BigInt((number << 3) | 2)), varint(BigInt(bytes.length)), bytes]);
}

function varint(value: bigint): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Buffer.from([...bytes, Number(rest)]);
}
