/**
 * CSV and TSV: lines → records, by the header row. Papa Parse splits the fields. This file finds the end of each
 * record, because a quoted field may hold line breaks and the file must not be in memory as a whole.
 *
 * Assumptions (RFC 4180): `"` opens a quoted field only at its start; `""` inside a quoted field is a quote. Blank
 * lines are not records. An unclosed quote gives one malformed record of all lines up to the record bound or the end of
 * the file. All these lines count. In a TSV, a quoted field does not hold both a tab and a line end: its quote is an
 * ordinary character of a file without quoting, so its lines are malformed and the next line is read on its own.
 * A first line `sep=;`, as Excel writes it, sets the delimiter; `#TYPE …` of PowerShell's Export-Csv is left out.
 * Columns without a name have no field.
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

const NO_QUOTES = 'if quotes are ordinary characters in this file, set quotes: false';
const NO_UTF8 = 'if it is in Windows-1252, convert it: iconv -f WINDOWS-1252 -t UTF-8';
const SEPARATOR_LINE = /^"?sep=([^"])"?$/iu;
const TYPE_LINE = /^#TYPE [\w.]+/u;
const DELIMITERS = [',', ';', '\t', '|'];

export class DelimitedReader {
  readonly #options: DelimitedOptions;
  #delimiter: string;
  #header: readonly string[] | undefined;
  /** Lines of the open record: its quoted field has not ended yet. */
  #open: string[] = [];
  #openLength = 0;
  #openedAt = 0;

  constructor(options: DelimitedOptions) {
    this.#options = options;
    this.#delimiter = options.delimiter;
  }

  /** Whether the header row has been read. */
  get hasHeader(): boolean {
    return this.#header !== undefined;
  }

  /** The records that end with this line. @throws SOURCE_UNREADABLE or CONFIG_INVALID for a wrong header */
  push(line: TextLine): SourceRecord[] {
    if (!line.ok) {
      if (this.#header === undefined) throw this.#badHeader(`${line.reason}; ${NO_UTF8}`);
      if (this.#open.length === 0) this.#openedAt = line.line;
      return [this.#dropOpen(line.reason, this.#open.length + 1)];
    }
    const records: SourceRecord[] = [];
    const isContinued = this.#open.length > 0;
    const quotes = this.#options.quotes ? followQuotes(line.text, this.#delimiter, isContinued) : NO_OPEN_QUOTE;
    if (isContinued && quotes.firstHoldsDelimiter && this.#delimiter === '\t') {
      records.push(this.#dropOpen(this.#unclosed()));
      return [...records, ...this.push(line)];
    }
    if (!isContinued) {
      if (line.text.trim() === '' && !line.text.includes(this.#delimiter)) return [];
      this.#openedAt = line.line;
      if (line.line === 1 && this.#header === undefined && TYPE_LINE.test(line.text)) return [];
      const separator = line.line === 1 ? SEPARATOR_LINE.exec(line.text)?.[1] : undefined;
      if (separator !== undefined && this.#header === undefined) {
        this.#delimiter = separator;
        return [];
      }
    }
    this.#open.push(line.text);
    this.#openLength += line.text.length + 1;
    if (this.#openLength > this.#options.maxRecordLength)
      return [this.#dropOpen(`the record is longer than ${this.#options.maxRecordLength} characters`)];
    if (quotes.isOpen) {
      const isTab = this.#delimiter === '\t' && quotes.lastHoldsDelimiter;
      return isTab ? [this.#dropOpen(this.#unclosed())] : [];
    }
    const text = this.#open.join('\n');
    const numLines = this.#open.length;
    this.#clearOpen();
    const record = this.#parse(text, numLines);
    return record === undefined ? [] : [record];
  }

  /** The record that is still open at the end of the file: its quote was never closed. */
  flush(): SourceRecord | undefined {
    if (this.#open.length === 0) return undefined;
    return this.#dropOpen('a quoted field is not closed before the end of the file');
  }

  /** @throws SOURCE_UNREADABLE if it is the header */
  #unclosed(): string {
    const reason = `a quoted field holds a tab and a line end: its quote is not closed; ${NO_QUOTES}`;
    if (this.#header === undefined) throw this.#badHeader(reason);
    return reason;
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
    const { quotes, file } = this.#options;
    const delimiter = this.#delimiter;
    // fastMode ignores quotes. It also splits at line breaks, but without quotes a record has none.
    const parsed = papa.parse<string[]>(text, { delimiter, newline: '\n', ...(quotes ? {} : { fastMode: true }) });
    const problem = parsed.errors[0] === undefined ? undefined : `a quote is inside a quoted field; ${NO_QUOTES}`;
    const values = parsed.data[0] ?? [];
    if (this.#header === undefined) {
      const hint = delimiterHint(text, delimiter);
      if (problem !== undefined) throw this.#badHeader(hint ?? problem);
      this.#header = this.#checkHeader(values, hint);
      return undefined;
    }
    if (problem !== undefined) return this.#malformed(problem, numLines);
    if (values.length !== this.#header.length)
      return this.#malformed(`${values.length} fields, but the header has ${this.#header.length}`, numLines);
    const fields = Object.fromEntries(this.#header.map((name, i) => [name, values[i]] as const).filter(isNamed));
    return { file, row: this.#openedAt, ok: true, fields };
  }

  #checkHeader(values: readonly string[], hint: string | undefined): string[] {
    const names = values.map((name) => name.trim());
    const known = names.filter((name) => name !== '');
    const twice = known.find((name, i) => known.indexOf(name) !== i);
    if (twice !== undefined) throw this.#badHeader(`the column "${twice}" is listed twice`);
    const missing = this.#options.requiredFields.filter((name) => !known.includes(name));
    const place = `${this.#options.file}, line ${this.#openedAt}`;
    if (missing.length > 0) throw missingColumns(place, missing, known, hint);
    return names;
  }

  #badHeader(reason: string): TrainerError {
    const what = `${this.#options.file}: invalid header row: ${reason}`;
    return new TrainerError('SOURCE_UNREADABLE', `${what}; the first row must name the columns`);
  }
}

const QUOTE = 34;
const SPACE = 32;

interface OpenQuote {
  /** Whether a quoted field is still open after the line. */
  readonly isOpen: boolean;
  /** Whether the field that was open before the line holds a delimiter. */
  readonly firstHoldsDelimiter: boolean;
  /** Whether the field that is open after the line holds a delimiter in it. */
  readonly lastHoldsDelimiter: boolean;
}

const NO_OPEN_QUOTE: OpenQuote = { isOpen: false, firstHoldsDelimiter: false, lastHoldsDelimiter: false };

/** @param isOpen whether a quoted field was open before this line */
function followQuotes(line: string, delimiter: string, isOpen: boolean): OpenQuote {
  if (!isOpen && !line.includes('"')) return NO_OPEN_QUOTE;
  const delimiterCode = delimiter.charCodeAt(0);
  let open = isOpen;
  let isFirst = isOpen;
  let firstHoldsDelimiter = false;
  let holdsDelimiter = false;
  let atFieldStart = !isOpen;
  for (let i = 0; i < line.length; i++) {
    const code = line.charCodeAt(i);
    if (!open) {
      if (code === QUOTE && atFieldStart) {
        open = true;
        holdsDelimiter = false;
      }
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
        isFirst = false;
        atFieldStart = false;
        i = next - 1;
      }
    } else if (code === delimiterCode) {
      holdsDelimiter = true;
      if (isFirst) firstHoldsDelimiter = true;
    }
  }
  return { isOpen: open, firstHoldsDelimiter, lastHoldsDelimiter: open && holdsDelimiter };
}

/** What to do if the header is separated by another character. */
function delimiterHint(header: string, delimiter: string): string | undefined {
  if (header.includes(delimiter)) return undefined;
  const counts = DELIMITERS.map((other) => ({ other, count: header.split(other).length - 1 }));
  const best = counts.reduce((a, b) => (b.count > a.count ? b : a));
  if (best.count === 0) return undefined;
  const shown = (char: string): string => (char === '\t' ? 'a tab' : `"${char}"`);
  const cure =
    best.other === '\t'
      ? 'give format: tsv'
      : best.other === ','
        ? 'give format: csv'
        : `put the line sep=${best.other} before the header`;
  return `its columns seem to have the delimiter ${shown(best.other)}, not ${shown(delimiter)}: ${cure}`;
}

function isNamed([name]: readonly [string, string | undefined]): boolean {
  return name !== '';
}
