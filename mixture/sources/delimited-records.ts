/**
 * CSV and TSV: lines → records, by the header row. Papa Parse splits the fields. This file finds the end of each
 * record, because a quoted field may hold line breaks and the file must not be in memory as a whole.
 *
 * Assumptions (RFC 4180): `"` opens a quoted field only at its start; `""` inside a quoted field is a quote. Blank
 * lines are not records. An unclosed quote gives one malformed record of all lines up to the record bound or the end of
 * the file. All these lines count.
 */
import papa from 'papaparse';
import { TrainerError } from '../../shared/errors.ts';
import { missingColumns, type SourceRecord, type TextLine } from './source-record.ts';

export interface DelimitedOptions {
  /** The file's name as in the mixture. */
  readonly file: string;
  readonly delimiter: ',' | '\t';
  readonly quotes: boolean;
  /** Columns that the header must have. */
  readonly requiredFields: readonly string[];
  /** Longest record in UTF-16 units. */
  readonly maxRecordLength: number;
}

export class DelimitedReader {
  readonly #options: DelimitedOptions;
  #header: readonly string[] | undefined;
  /** Lines of the open record: its quoted field has not ended yet. */
  #open: string[] = [];
  #openLength = 0;
  #openedAt = 0;

  constructor(options: DelimitedOptions) {
    this.#options = options;
  }

  /** Whether the header row has been read. */
  get hasHeader(): boolean {
    return this.#header !== undefined;
  }

  /** The record that ends with this line, if any. @throws SOURCE_UNREADABLE or CONFIG_INVALID for a wrong header */
  push(line: TextLine): SourceRecord | undefined {
    if (!line.ok) {
      if (this.#header === undefined) throw this.#badHeader(line.reason);
      if (this.#open.length === 0) this.#openedAt = line.line;
      return this.#dropOpen(line.reason, this.#open.length + 1);
    }
    if (this.#open.length === 0) {
      if (line.text.trim() === '' && !line.text.includes(this.#options.delimiter)) return undefined;
      this.#openedAt = line.line;
    }
    const wasOpen = this.#open.length > 0;
    this.#open.push(line.text);
    this.#openLength += line.text.length + 1;
    if (this.#openLength > this.#options.maxRecordLength) {
      return this.#dropOpen(`the record is longer than ${this.#options.maxRecordLength} characters`);
    }
    if (this.#options.quotes && endsInsideQuotes(line.text, this.#options.delimiter, wasOpen)) return undefined;
    const text = this.#open.join('\n');
    const numLines = this.#open.length;
    this.#clearOpen();
    return this.#parse(text, numLines);
  }

  /** The record that is still open at the end of the file: its quote was never closed. */
  flush(): SourceRecord | undefined {
    if (this.#open.length === 0) return undefined;
    return this.#dropOpen('a quoted field is not closed before the end of the file');
  }

  #clearOpen(): void {
    this.#open = [];
    this.#openLength = 0;
  }

  #dropOpen(reason: string, numLines = this.#open.length): SourceRecord {
    this.#clearOpen();
    return this.#malformed(reason, numLines);
  }

  #malformed(reason: string, numLines: number): SourceRecord {
    return { file: this.#options.file, row: this.#openedAt, ok: false, reason, rows: numLines };
  }

  #parse(text: string, numLines: number): SourceRecord | undefined {
    const { delimiter, quotes, file } = this.#options;
    // fastMode ignores quotes. It also splits at line breaks, but without quotes a record has none.
    const parsed = papa.parse<string[]>(text, { delimiter, newline: '\n', ...(quotes ? {} : { fastMode: true }) });
    const problem = parsed.errors[0];
    const values = parsed.data[0] ?? [];
    if (this.#header === undefined) {
      if (problem !== undefined) throw this.#badHeader(problem.message);
      this.#header = this.#checkHeader(values);
      return undefined;
    }
    if (problem !== undefined) return this.#malformed(problem.message, numLines);
    if (values.length !== this.#header.length)
      return this.#malformed(`${values.length} fields, but the header has ${this.#header.length}`, numLines);
    const fields = Object.fromEntries(this.#header.map((name, i) => [name, values[i]]));
    return { file, row: this.#openedAt, ok: true, fields };
  }

  #checkHeader(values: readonly string[]): string[] {
    const names = values.map((name) => name.trim());
    const twice = names.find((name, i) => names.indexOf(name) !== i);
    if (twice !== undefined) throw this.#badHeader(`the column "${twice}" is listed twice`);
    const missing = this.#options.requiredFields.filter((name) => !names.includes(name));
    if (missing.length > 0) throw missingColumns(`${this.#options.file}, line ${this.#openedAt}`, missing, names);
    return names;
  }

  #badHeader(reason: string): TrainerError {
    const what = `${this.#options.file}: invalid header row: ${reason}`;
    return new TrainerError('SOURCE_UNREADABLE', `${what}; the first row must name the columns`);
  }
}

const QUOTE = 34;
const SPACE = 32;

/** Whether a quoted field is still open after this line. @param isOpen whether one was open before it */
function endsInsideQuotes(line: string, delimiter: string, isOpen: boolean): boolean {
  if (!isOpen && !line.includes('"')) return false;
  const delimiterCode = delimiter.charCodeAt(0);
  let open = isOpen;
  let atFieldStart = !isOpen;
  for (let i = 0; i < line.length; i++) {
    const code = line.charCodeAt(i);
    if (!open) {
      if (code === QUOTE && atFieldStart) open = true;
      atFieldStart = code === delimiterCode;
    } else if (code === QUOTE) {
      if (line.charCodeAt(i + 1) === QUOTE) {
        i++;
        continue;
      }
      // Papa Parse allows spaces between a closing quote and the delimiter. Any other character keeps the field open.
      let next = i + 1;
      while (line.charCodeAt(next) === SPACE && delimiterCode !== SPACE) next++;
      if (next >= line.length || line.charCodeAt(next) === delimiterCode) {
        open = false;
        atFieldStart = false;
        i = next - 1;
      }
    }
  }
  return open;
}
