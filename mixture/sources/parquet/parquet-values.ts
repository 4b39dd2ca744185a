/**
 * Values of hyparquet → plain values, as the datasets library gives them: a struct is an object, a list an array, a
 * missing value null. Numbers are exact or their digits: integers, decimals of any precision. Times are ISO strings with
 * the digits of their unit. Bytes stay bytes.
 *
 * hyparquet reads a DECIMAL as a double and a TIME as a plain number. So a *shape*, made from the schema, says which
 * values are raw, and `toRawSchema` makes hyparquet give them raw.
 */
import { isUtf8 } from 'node:buffer';
import type { ParquetParsers, SchemaElement } from 'hyparquet';
import type { SchemaTree } from 'hyparquet/src/types.js';
import { numberOrDigits, parseJson } from '../json-text.ts';

/** A value that could not be decoded. Its row is malformed. */
class Undecodable {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

const NOT_UTF8 = new Undecodable('is not valid UTF-8');
const NOT_JSON = new Undecodable('is not JSON');
const LONE_SURROGATE = new Undecodable('has half of a surrogate pair: the text was cut inside a character');
const OUT_OF_RANGE = new Undecodable('is a time out of range');

function textOf(bytes: Uint8Array | undefined): string | Undecodable | undefined {
  if (bytes === undefined) return undefined;
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return isUtf8(buffer) ? buffer.toString('utf8') : NOT_UTF8;
}

/** Parsers for hyparquet. Invalid text or JSON becomes an Undecodable, instead of U+FFFD or an exception. */
export const PARSERS: Partial<ParquetParsers> = {
  stringFromBytes: textOf,
  jsonFromBytes(bytes: Uint8Array | undefined): unknown {
    const text = textOf(bytes);
    if (typeof text !== 'string') return text;
    const parsed = parseJson(text);
    if (parsed.ok) return parsed.value;
    return parsed.kind === 'surrogate' ? LONE_SURROGATE : NOT_JSON;
  },
  timestampFromMilliseconds: (millis: bigint | number) => timestampOf(BigInt(millis), 3),
  timestampFromMicroseconds: (micros: bigint | number) => timestampOf(BigInt(micros), 6),
  timestampFromNanoseconds: (nanos: bigint | number) => timestampOf(BigInt(nanos), 9),
  dateFromDays(days: number): string | Undecodable {
    const date = new Date(days * 86_400_000);
    return Number.isNaN(date.getTime()) ? OUT_OF_RANGE : date.toISOString().replace(/T.*$/u, '');
  },
  geographyFromBytes: (bytes: Uint8Array | undefined) => bytes, // see toRawSchema
};

/**
 * `2010-01-02T03:04:05.678Z`: three digits of a second, six or nine if they are needed.
 * @param count units since 1970 @param unitDigits 3 for ms, 6 for µs, 9 for ns
 */
function timestampOf(count: bigint, unitDigits: 3 | 6 | 9): string | Undecodable {
  const perMillisecond = 10n ** BigInt(unitDigits - 3);
  const rest = ((count % perMillisecond) + perMillisecond) % perMillisecond;
  const date = new Date(Number((count - rest) / perMillisecond));
  if (Number.isNaN(date.getTime())) return OUT_OF_RANGE;
  const more =
    rest === 0n
      ? ''
      : String(rest)
          .padStart(unitDigits - 3, '0')
          .replace(/000$/u, '');
  return date.toISOString().replace('Z', `${more}Z`);
}

/** `03:04:05`, `03:04:05.678901`: as many groups of three digits as are needed. @param count units since midnight */
function timeOf(count: bigint, unitDigits: 3 | 6 | 9): string | Undecodable {
  const perSecond = 10n ** BigInt(unitDigits);
  const seconds = count / perSecond;
  if (count < 0n || seconds > 86_400n) return OUT_OF_RANGE;
  const two = (part: bigint) => String(part).padStart(2, '0');
  const fraction = String(count % perSecond)
    .padStart(unitDigits, '0')
    .replace(/(?:000)+$/u, '');
  const clock = `${two(seconds / 3_600n)}:${two((seconds / 60n) % 60n)}:${two(seconds % 60n)}`;
  return fraction === '' ? clock : `${clock}.${fraction}`;
}

/** A decimal without zeros at its end: a number if a double holds it, else its digits. */
function decimalOf(unscaled: bigint, scale: number): number | string {
  const digits = String(unscaled < 0n ? -unscaled : unscaled).padStart(scale + 1, '0');
  const fraction = digits.slice(digits.length - scale).replace(/0+$/u, '');
  const whole = digits.slice(0, digits.length - scale);
  const sign = unscaled < 0n ? '-' : '';
  return numberOrDigits(scale === 0 || fraction === '' ? `${sign}${whole}` : `${sign}${whole}.${fraction}`);
}

/** Two's complement, big-endian. */
function bigIntOf(bytes: Uint8Array): bigint {
  if (bytes.length === 0) return 0n;
  const { buffer, byteOffset, byteLength } = bytes;
  return BigInt.asIntN(8 * byteLength, BigInt(`0x${Buffer.from(buffer, byteOffset, byteLength).toString('hex')}`));
}

type LeafReader = (value: unknown) => unknown;

/** Where raw values are in a column. A list has the shape of its elements. */
export type ColumnShape =
  | { readonly kind: 'leaf'; readonly read: LeafReader }
  | { readonly kind: 'struct'; readonly fields: ReadonlyMap<string, ColumnShape> }
  | { readonly kind: 'map'; readonly values: ColumnShape };

/** @returns undefined if no value in the column is raw */
export function shapeOf(column: SchemaTree): ColumnShape | undefined {
  const { element, children } = column;
  const [child] = children;
  if (child === undefined) {
    const read = leafReaderOf(element);
    return read === undefined ? undefined : { kind: 'leaf', read };
  }
  if (isMap(column)) {
    const values = child.children[1] === undefined ? undefined : shapeOf(child.children[1]);
    return values === undefined ? undefined : { kind: 'map', values };
  }
  const isList =
    element.converted_type === 'LIST' &&
    children.length === 1 &&
    child.children.length <= 1 &&
    child.element.repetition_type === 'REPEATED';
  if (isList) return shapeOf(child.children[0] ?? child);
  const fields = new Map<string, ColumnShape>();
  for (const field of children) {
    const shape = shapeOf(field);
    if (shape !== undefined) fields.set(field.element.name, shape);
  }
  return fields.size === 0 ? undefined : { kind: 'struct', fields };
}

function isMap({ element, children }: SchemaTree): boolean {
  return element.converted_type === 'MAP' && children.length === 1 && children[0]?.children.length === 2;
}

function leafReaderOf(element: SchemaElement): LeafReader | undefined {
  const { converted_type: converted, logical_type: logical, scale, type } = element;
  if (isDecimal(element)) {
    const digits = scale ?? (logical?.type === 'DECIMAL' ? logical.scale : 0);
    return (value: unknown) => {
      if (value instanceof Uint8Array) return decimalOf(bigIntOf(value), digits);
      return typeof value === 'number' || typeof value === 'bigint' ? decimalOf(BigInt(value), digits) : value;
    };
  }
  const unitDigits = timeDigitsOf(converted, logical);
  if (unitDigits !== undefined)
    return (value: unknown) =>
      typeof value === 'number' || typeof value === 'bigint' ? timeOf(BigInt(value), unitDigits) : value;
  const isUnsigned64 = converted === 'UINT_64' || (logical?.type === 'INTEGER' && !logical.isSigned);
  if (isUnsigned64 && type === 'INT64')
    return (value: unknown) => (typeof value === 'bigint' ? BigInt.asUintN(64, value) : value);
  return undefined;
}

function isDecimal({ converted_type: converted, logical_type: logical }: SchemaElement): boolean {
  return converted === 'DECIMAL' || logical?.type === 'DECIMAL';
}

function timeDigitsOf(
  converted: SchemaElement['converted_type'],
  logical: SchemaElement['logical_type'],
): 3 | 6 | 9 | undefined {
  if (logical?.type === 'TIME') return ({ MILLIS: 3, MICROS: 6, NANOS: 9 } as const)[logical.unit];
  return converted === 'TIME_MILLIS' ? 3 : converted === 'TIME_MICROS' ? 6 : undefined;
}

/**
 * The schema with which hyparquet gives decimals raw. Keys of maps stay as they are, because they become names.
 * hyparquet decodes bytes without a type as text, so those of a decimal are called GEOGRAPHY, whose parser gives them
 * back; real GEOGRAPHY becomes GEOMETRY, which has the same bytes.
 */
export function toRawSchema(schema: readonly SchemaElement[]): SchemaElement[] {
  return schema.map((element) => {
    const logical = element.logical_type;
    if (logical?.type === 'DATE') return { ...element, converted_type: 'DATE' };
    if (logical?.type === 'GEOGRAPHY') return { ...element, logical_type: { type: 'GEOMETRY' } };
    if (!isDecimal(element) || element.num_children !== undefined || element.name === 'key') return element;
    const raw = { ...element };
    delete raw.converted_type;
    delete raw.logical_type;
    if (raw.type === 'BYTE_ARRAY') raw.logical_type = { type: 'GEOGRAPHY' };
    return raw;
  });
}

/** Converts values and adds up their size. One converter serves many values. */
export class PlainConverter {
  /** The first value since `reset` that could not be decoded. */
  #problem: string | undefined;
  /** UTF-16 units of text plus bytes of binary values since `reset`. */
  size = 0;

  get problem(): string | undefined {
    return this.#problem;
  }

  reset(): void {
    this.#problem = undefined;
    this.size = 0;
  }

  /** @param shape of its column, if that has raw values */
  convert(value: unknown, shape?: ColumnShape): unknown {
    if (shape?.kind === 'leaf' && !isList(value)) return this.convert(shape.read(value));
    switch (typeof value) {
      case 'string':
        this.size += value.length;
        return value;
      case 'number':
      case 'boolean':
        return value;
      case 'bigint':
        return value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : String(value);
      case 'undefined':
        return null;
      case 'object':
        return this.#convertObject(value, shape);
      case 'function':
      case 'symbol':
        this.#problem ??= `is a ${typeof value}`;
        return null;
    }
  }

  #convertObject(value: object | null, shape: ColumnShape | undefined): unknown {
    if (value === null) return null;
    if (Array.isArray(value)) return value.map((entry) => this.convert(entry, shape));
    if (value instanceof Undecodable) {
      this.#problem ??= value.reason;
      return null;
    }
    if (value instanceof Uint8Array) {
      this.size += value.length;
      return value;
    }
    if (ArrayBuffer.isView(value))
      return Array.from(value as unknown as ArrayLike<unknown>, (entry) => this.convert(entry, shape));
    return Object.fromEntries(
      Object.entries(value).map(([name, entry]) => [name, this.convert(entry, fieldShape(shape, name))]),
    );
  }
}

function isList(value: unknown): boolean {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof Uint8Array));
}

function fieldShape(shape: ColumnShape | undefined, name: string): ColumnShape | undefined {
  if (shape?.kind === 'struct') return shape.fields.get(name);
  return shape?.kind === 'map' ? shape.values : undefined;
}
