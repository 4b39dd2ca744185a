/**
 * Bytes → lines of text, in bounded memory for any line length: a line beyond the bound is skipped and reported.
 *
 * Assumptions: lines end with LF or CRLF. The last line may lack it. A byte-order mark at the start is not text.
 * Invalid UTF-8 makes a line malformed; it never becomes U+FFFD.
 */
import type { TextLine } from './source-record.ts';

const LF = 10;
const CR = 13;

export class LineSplitter {
  readonly #maxLineBytes: number;
  readonly #mayHaveMark: boolean;
  readonly #decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  /** Parts of the current line. Empty while it is being skipped. */
  #parts: Uint8Array[] = [];
  #lineBytes = 0;
  #isSkipping = false;
  #line = 1;

  /** @param isFileStart whether the bytes start at the start of the file, which may have a byte-order mark */
  constructor(maxLineBytes: number, isFileStart = true) {
    this.#maxLineBytes = maxLineBytes;
    this.#mayHaveMark = isFileStart;
  }

  /** The lines that end inside `chunk`. The caller must not overwrite the chunk afterwards. */
  push(chunk: Uint8Array): TextLine[] {
    const lines: TextLine[] = [];
    let start = 0;
    for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
      lines.push(this.#endLine(chunk.subarray(start, end)));
      start = end + 1;
    }
    if (start < chunk.length) this.#append(chunk.subarray(start));
    return lines;
  }

  /** The last line, if it has no line break. */
  flush(): TextLine[] {
    return this.#lineBytes > 0 || this.#isSkipping ? [this.#endLine(new Uint8Array(0))] : [];
  }

  #append(part: Uint8Array): void {
    if (this.#isSkipping) return;
    if (this.#lineBytes + part.length > this.#maxLineBytes) {
      this.#parts = [];
      this.#lineBytes = 0;
      this.#isSkipping = true;
      return;
    }
    this.#parts.push(part);
    this.#lineBytes += part.length;
  }

  #endLine(lastPart: Uint8Array): TextLine {
    this.#append(lastPart);
    const line = this.#line++;
    if (this.#isSkipping) {
      this.#isSkipping = false;
      return { line, ok: false, reason: `the line is longer than ${this.#maxLineBytes} B` };
    }
    const bytes = this.#parts.length === 1 ? this.#parts[0]! : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#lineBytes = 0;
    try {
      const text = this.#decoder.decode(bytes.at(-1) === CR ? bytes.subarray(0, -1) : bytes);
      return {
        line,
        ok: true,
        text: line === 1 && this.#mayHaveMark && text.startsWith('\uFEFF') ? text.slice(1) : text,
      };
    } catch {
      return { line, ok: false, reason: 'the line is not valid UTF-8' };
    }
  }
}
