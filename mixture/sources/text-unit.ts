/**
 * A unit of a text file → batches of records: JSONL, plain text, CSV, TSV. A line belongs to the unit in which it
 * starts.
 *
 * Definition: a line starts at byte p if p = 0 or byte p-1 is a line feed. So a unit with from > 0 reads from byte
 * from-1, drops all bytes up to and including the first line feed, and ends with the first line feed at or after byte
 * to-1.
 */
import { TEXT_FIELD, type SourceFields } from '../tasks/task.ts';
import { decodeContent, withLineFeeds } from './decode-content.ts';
import { DelimitedReader } from './delimited-records.ts';
import { parseJson } from './json-text.ts';
import { JsonValueSplitter, type JsonPiece } from './json-values.ts';
import type { SourceUnit } from './resolved-source.ts';
import { streamBytes, type SourceFileBytes } from './source-file.ts';
import type { RecordBatch, SourceRecord, TextLine, UnitOptions } from './source-record.ts';
import { LineSplitter } from './text-lines.ts';

const LF = 10;

export interface TextUnit {
  readonly format: 'jsonl' | 'text' | 'csv' | 'tsv';
  readonly quotes: boolean;
  readonly part: SourceUnit['part'];
}

type RecordParser = (lines: readonly TextLine[], isEnd: boolean) => SourceRecord[];

/** @throws SOURCE_UNREADABLE, CONFIG_INVALID if the header lacks a required column, ABORTED */
export async function* readTextUnit(
  file: SourceFileBytes,
  unit: TextUnit,
  options: UnitOptions,
): AsyncGenerator<RecordBatch> {
  const from = unit.part.kind === 'bytes' ? unit.part.from : 0;
  const splitter = new LineSplitter(options.maxRecordBytes, from === 0);
  const { toRecords, start } = await createRecordParser(file, unit, from, options);
  let chunks: AsyncIterable<Uint8Array>;
  if (unit.part.kind === 'bytes') chunks = readLines(file, start, unit.part.to, options);
  else {
    const content = await decodeContent(streamBytes(file, options), file.name, unit.format);
    if (content.layout === 'json-values') {
      yield* readJsonValues(file.name, content.chunks, options.maxRecordBytes);
      return;
    }
    chunks = content.layout === 'cr-lines' ? withLineFeeds(content.chunks) : content.chunks;
  }
  for await (const chunk of chunks) yield toRecords(splitter.push(chunk), false);
  yield toRecords(splitter.flush(), true);
}

/** Records of JSON over several lines, or of an array: rows are values, counted from 1. */
async function* readJsonValues(
  file: string,
  chunks: AsyncIterable<Uint8Array>,
  maxRecordBytes: number,
): AsyncGenerator<RecordBatch> {
  const splitter = new JsonValueSplitter(file, maxRecordBytes);
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let row = 0;
  const toRecord = (piece: JsonPiece): SourceRecord => {
    const origin = { file, row: ++row };
    if (!piece.ok) return { ...origin, ok: false, rows: 1, reason: piece.reason };
    let text: string;
    try {
      text = decoder.decode(piece.bytes);
    } catch {
      return { ...origin, ok: false, rows: 1, reason: 'the value is not valid UTF-8' };
    }
    return parseJsonRecord(text, origin, 'value');
  };
  for await (const chunk of chunks) yield splitter.push(chunk).map(toRecord);
  yield splitter.flush().map(toRecord);
}

/** @returns also the first byte of the unit at which a record may start: behind the header */
async function createRecordParser(
  file: SourceFileBytes,
  { format, quotes }: TextUnit,
  from: number,
  options: UnitOptions,
): Promise<{ readonly toRecords: RecordParser; readonly start: number }> {
  const label = from === 0 ? file.name : `${file.name}@${from}`;
  if (format === 'jsonl' || format === 'text') {
    const parseLine = format === 'jsonl' ? parseJsonLine : parseTextLine;
    const toRecords: RecordParser = (lines) =>
      lines.map((line) => parseLine(line, label)).filter((record) => record !== undefined);
    return { toRecords, start: from };
  }
  const reader = new DelimitedReader({
    file: label,
    delimiter: format === 'csv' ? ',' : '\t',
    quotes,
    requiredFields: options.requiredFields,
    maxRecordLength: options.maxRecordBytes,
  });
  const start = from > 0 ? Math.max(from, await readHeader(file, reader, options)) : from;
  const toRecords: RecordParser = (lines, isEnd) => {
    const records = lines.flatMap((line) => reader.push(line));
    const last = isEnd ? reader.flush() : undefined;
    return last === undefined ? records : [...records, last];
  };
  return { toRecords, start };
}

/**
 * Reads the header row at the start of the file, for a unit that starts after byte 0.
 * @returns the byte behind it, where the first record may start
 */
async function readHeader(file: SourceFileBytes, reader: DelimitedReader, options: UnitOptions): Promise<number> {
  const splitter = new LineSplitter(options.maxRecordBytes);
  let at = 0;
  for await (const chunk of file.stream({ signal: options.signal })) {
    let start = 0;
    for (let end = chunk.indexOf(LF) + 1; end !== 0; end = chunk.indexOf(LF, start) + 1) {
      for (const line of splitter.push(chunk.subarray(start, end))) reader.push(line);
      if (reader.hasHeader) return at + end;
      start = end;
    }
    splitter.push(chunk.subarray(start));
    at += chunk.length;
  }
  return at;
}

/** The bytes of the lines that start at `from` … `to` - 1. */
async function* readLines(
  file: SourceFileBytes,
  from: number,
  to: number,
  { signal, onBytes }: UnitOptions,
): AsyncGenerator<Uint8Array> {
  let at = Math.max(0, from - 1);
  let isInside = from === 0;
  for await (const chunk of file.stream({ from: at, signal })) {
    onBytes(chunk.length);
    const start = isInside ? 0 : chunk.indexOf(LF) + 1;
    if (isInside || start > 0) {
      // If the line feed that ends the skipped line is at or after to-1, no line starts in this unit.
      const lastBreak = to === file.bytes ? -1 : chunk.indexOf(LF, Math.max(0, start - 1, to - 1 - at));
      if (lastBreak !== -1) {
        if (lastBreak + 1 > start) yield chunk.subarray(start, lastBreak + 1);
        return;
      }
      isInside = true;
      if (start < chunk.length) yield chunk.subarray(start);
    }
    at += chunk.length;
  }
}

function parseJsonLine(line: TextLine, file: string): SourceRecord | undefined {
  if (!line.ok) return { file, row: line.line, ok: false, rows: 1, reason: line.reason };
  if (line.text.trim() === '') return undefined;
  return parseJsonRecord(line.text, { file, row: line.line }, 'line');
}

function parseJsonRecord(
  text: string,
  origin: Pick<SourceRecord, 'file' | 'row'>,
  what: 'line' | 'value',
): SourceRecord {
  const parsed = parseJson(text);
  if (!parsed.ok) {
    // Kinds of reasons end at the first quote: the place and what is there differ from row to row.
    const start = JSON.stringify(text.slice(0, 40));
    const reason = `not JSON: the ${what} starts with ${start}; ${parsed.reason}`;
    return { ...origin, ok: false, rows: 1, reason: parsed.kind === 'surrogate' ? parsed.reason : reason };
  }
  if (!isObject(parsed.value)) return { ...origin, ok: false, rows: 1, reason: 'not a JSON object' };
  return { ...origin, ok: true, fields: parsed.value };
}

function parseTextLine(line: TextLine, file: string): SourceRecord | undefined {
  if (!line.ok) return { file, row: line.line, ok: false, rows: 1, reason: line.reason };
  if (line.text.trim() === '') return undefined;
  return { file, row: line.line, ok: true, fields: { [TEXT_FIELD]: line.text } };
}

function isObject(value: unknown): value is SourceFields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
