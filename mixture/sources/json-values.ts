/**
 * Bytes of JSON → the bytes of each value, in bounded memory: values that follow one another over any lines, and the
 * elements of an array. A value beyond the bound is skipped and reported.
 *
 * Definition: only brackets, quotes and commas are looked at. Whether a piece is JSON is decided when it is parsed, so a
 * wrong value is one malformed record, and the values behind it are read.
 */
import { TrainerError } from '../../shared/errors.ts';

export type JsonPiece =
  { readonly ok: true; readonly bytes: Uint8Array } | { readonly ok: false; readonly reason: string };

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
/** A byte-order mark, before the first value. */
const MARK: readonly number[] = [0xef, 0xbb, 0xbf];

export class JsonValueSplitter {
  readonly #name: string;
  readonly #maxValueBytes: number;
  /** Whether an array at the top is open: its elements are the values. */
  #isInArray = false;
  #numInArray = 0;
  /** Open brackets of the current value. */
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  /** Whether the current value has any byte but space. */
  #isOpen = false;
  #parts: Uint8Array[] = [];
  #valueBytes = 0;
  #numValues = 0;

  /** @param name of the file, for messages */
  constructor(name: string, maxValueBytes: number) {
    this.#name = name;
    this.#maxValueBytes = maxValueBytes;
  }

  /** The values that end inside `chunk`. The caller must not overwrite the chunk afterwards. */
  push(chunk: Uint8Array): JsonPiece[] {
    const pieces: JsonPiece[] = [];
    let start = 0;
    const end = (at: number): void => {
      pieces.push(this.#endValue(chunk.subarray(start, at)));
      start = at;
    };
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (this.#isInString) {
        if (this.#isEscaped) this.#isEscaped = false;
        else if (byte === BACKSLASH) this.#isEscaped = true;
        else if (byte === QUOTE) this.#isInString = false;
        continue;
      }
      const isMark = this.#numValues === 0 && !this.#isOpen && !this.#isInArray && MARK.includes(byte);
      if (isSpace(byte) || isMark) {
        if (!this.#isOpen) start = at + 1;
        else if (this.#depth === 0 && !this.#isInArray) end(at);
        continue;
      }
      const isOpening = byte === 0x5b || byte === 0x7b;
      const isClosing = byte === 0x5d || byte === 0x7d;
      if (this.#depth === 0) {
        if (this.#isInArray && (byte === COMMA || byte === 0x5d)) {
          const isTrailing = byte === 0x5d && !this.#isOpen && this.#numInArray === 0;
          if (!isTrailing) end(at);
          this.#isInArray = byte === COMMA;
          this.#numInArray = this.#isInArray ? this.#numInArray + 1 : 0;
          start = at + 1;
          continue;
        }
        if (!this.#isInArray && isOpening && this.#isOpen) end(at);
        if (!this.#isInArray && byte === 0x5b) {
          this.#isInArray = true;
          start = at + 1;
          continue;
        }
      }
      if (!this.#isOpen) start = at;
      this.#isOpen = true;
      if (byte === QUOTE) this.#isInString = true;
      else if (isOpening) this.#depth += 1;
      else if (isClosing && this.#depth > 0) {
        this.#depth -= 1;
        if (this.#depth === 0 && !this.#isInArray) end(at + 1);
      }
    }
    if (this.#isOpen) this.#append(chunk.subarray(start));
    return pieces;
  }

  /** The last value, if nothing is left open. @throws SOURCE_UNREADABLE if the text ends inside a value or an array */
  flush(): JsonPiece[] {
    if (this.#depth > 0 || this.#isInString || this.#isInArray)
      throw new TrainerError(
        'SOURCE_UNREADABLE',
        `source file ${this.#name} cannot be read: its JSON ends inside value ${this.#numValues + 1}${this.#isInArray ? ' of an array' : ''}: it is truncated, or a bracket or quote is missing; download or write it again`,
      );
    return this.#isOpen ? [this.#endValue(new Uint8Array(0))] : [];
  }

  #append(part: Uint8Array): void {
    this.#valueBytes += part.length;
    if (this.#valueBytes > this.#maxValueBytes) this.#parts = [];
    else this.#parts.push(part);
  }

  #endValue(lastPart: Uint8Array): JsonPiece {
    this.#append(lastPart);
    const bytes = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    const isTooLong = this.#valueBytes > this.#maxValueBytes;
    this.#parts = [];
    this.#valueBytes = 0;
    this.#isOpen = false;
    this.#numValues += 1;
    return isTooLong ? { ok: false, reason: `the value is longer than ${this.#maxValueBytes} B` } : { ok: true, bytes };
  }
}

function isSpace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}
