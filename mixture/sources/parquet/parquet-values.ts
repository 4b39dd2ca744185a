/**
 * Values of hyparquet → plain values, as the datasets library gives them: a struct is an object, a list an array, a
 * missing value null. Integers are numbers if exact, else their digits. Times are ISO strings. Bytes stay bytes.
 */
import { isUtf8 } from 'node:buffer';
import type { ParquetParsers } from 'hyparquet';

/** A value that could not be decoded. Its row is malformed. */
class Undecodable {
  readonly reason: string;

  constructor(reason: string) {
    this.reason = reason;
  }
}

const NOT_UTF8 = new Undecodable('is not valid UTF-8');
const NOT_JSON = new Undecodable('is not JSON');

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
    try {
      return JSON.parse(text);
    } catch {
      return NOT_JSON;
    }
  },
};

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

  convert(value: unknown): unknown {
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
        return this.#convertObject(value);
      case 'function':
      case 'symbol':
        this.#problem ??= `is a ${typeof value}`;
        return null;
    }
  }

  #convertObject(value: object | null): unknown {
    if (value === null) return null;
    if (Array.isArray(value)) return value.map((entry) => this.convert(entry));
    if (value instanceof Undecodable) {
      this.#problem ??= value.reason;
      return null;
    }
    if (value instanceof Date) {
      if (Number.isNaN(value.getTime())) {
        this.#problem ??= 'is a time out of range';
        return null;
      }
      return value.toISOString();
    }
    if (value instanceof Uint8Array) {
      this.size += value.length;
      return value;
    }
    if (ArrayBuffer.isView(value))
      return Array.from(value as unknown as ArrayLike<unknown>, (entry) => this.convert(entry));
    return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, this.convert(entry)]));
  }
}
