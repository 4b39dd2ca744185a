/**
 * A unit of a text file → batches of records. A line belongs to the unit in which it starts.
 *
 * A line starts at byte p where p = 0 or byte p-1 is a line feed. So a unit from > 0 reads from byte from-1, drops all up to and
 * with the first line feed, and ends with the first line feed at or behind byte to-1.
 */
import { DelimitedReader } from './delimited-records.ts';
import { isCompressed, streamBytes } from './file-stream.ts';
import { parseJsonLine, parseTextLine } from './line-records.ts';
import type { UnitOptions } from './read-options.ts';
import type { SourceUnit } from './resolved-source.ts';
import type { SourceFileBytes } from './source-file.ts';
import type { RecordBatch, SourceRecord, TextLine } from './source-record.ts';
import { LineSplitter } from './text-lines.ts';

const LF = 10;

export interface TextUnit {
  readonly format: 'jsonl' | 'text' | 'csv' | 'tsv';
  readonly quotes: boolean;
  readonly part: SourceUnit['part'];
}

type RecordParser = (lines: readonly TextLine[], isEnd: boolean) => SourceRecord[];

/** @throws SOURCE_UNREADABLE, CONFIG_INVALID for a header without a required column, ABORTED */
export async function* readTextUnit(
  file: SourceFileBytes,
  unit: TextUnit,
  options: UnitOptions,
): AsyncGenerator<RecordBatch> {
  const from = unit.part.kind === 'bytes' ? unit.part.from : 0;
  const to = unit.part.kind === 'bytes' ? unit.part.to : file.bytes;
  const splitter = new LineSplitter(options.maxRecordBytes, from === 0);
  const toRecords = await createRecordParser(file, unit, from, options);
  for await (const chunk of readLines(file, from, to, options)) yield toRecords(splitter.push(chunk), false);
  yield toRecords(splitter.flush(), true);
}

async function createRecordParser(
  file: SourceFileBytes,
  { format, quotes }: TextUnit,
  from: number,
  options: UnitOptions,
): Promise<RecordParser> {
  const label = from === 0 ? file.name : `${file.name}@${from}`;
  if (format === 'jsonl' || format === 'text') {
    const parseLine = format === 'jsonl' ? parseJsonLine : parseTextLine;
    return (lines) => lines.map((line) => parseLine(line, label)).filter((record) => record !== undefined);
  }
  const reader = new DelimitedReader({
    file: label,
    delimiter: format === 'csv' ? ',' : '\t',
    quotes,
    requiredFields: options.requiredFields,
    maxRecordLength: options.maxRecordBytes,
  });
  if (from > 0) await readHeader(file, reader, options);
  return (lines, isEnd) => {
    const records = lines.map((line) => reader.push(line));
    if (isEnd) records.push(reader.flush());
    return records.filter((record) => record !== undefined);
  };
}

/** The header row, which stands at the start of the file, for a unit that starts behind it. */
async function readHeader(file: SourceFileBytes, reader: DelimitedReader, options: UnitOptions): Promise<void> {
  const splitter = new LineSplitter(options.maxRecordBytes);
  for await (const chunk of file.stream({ signal: options.signal }))
    for (const line of splitter.push(chunk)) {
      reader.push(line);
      if (reader.hasHeader) return;
    }
}

/** The bytes of the lines that start at `from` … `to` - 1, decompressed. */
async function* readLines(
  file: SourceFileBytes,
  from: number,
  to: number,
  { signal, onBytes }: UnitOptions,
): AsyncGenerator<Uint8Array> {
  if (isCompressed(file)) {
    yield* streamBytes(file, { signal, onBytes });
    return;
  }
  let at = Math.max(0, from - 1);
  let isInside = from === 0;
  for await (const chunk of file.stream({ from: at, signal })) {
    onBytes(chunk.length);
    const start = isInside ? 0 : chunk.indexOf(LF) + 1;
    if (isInside || start > 0) {
      // Where the line feed that ends the skipped line is itself at or behind to-1, no line starts in this unit.
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
