/**
 * Duty: reads all rows of a committed data file into memory, for the README's table, the training text of the
 * vocabulary and the test. This is deliberately not the product's reader (mixture/sources): the test compares the two.
 */

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import Papa from 'papaparse';
import { z } from 'zod';
import { TrainerError } from '../../../shared/errors.ts';

export type Format = 'jsonl' | 'csv' | 'tsv' | 'text';
export type DataRow = Readonly<Record<string, string | number | readonly string[]>>;

const rowSchema = z.record(z.string(), z.union([z.string(), z.number(), z.array(z.string())]));

/**
 * @returns rows; a row of the format `text` has one field, `text` @throws TrainerError SOURCE_MALFORMED with file and
 * line
 */
export function readRows(file: string, format: Format): DataRow[] {
  const bytes = readFileSync(file);
  const text = new TextDecoder('utf-8', { fatal: true }).decode(file.endsWith('.gz') ? gunzipSync(bytes) : bytes);
  if (format === 'csv') return readCsv(file, text);
  if (!text.endsWith('\n')) throw malformed(file, text.split('\n').length, 'the last line has no line end');
  const lines = text.slice(0, -1).split('\n');
  if (format === 'jsonl') return lines.map((line) => rowSchema.parse(JSON.parse(line)));
  if (format === 'text') return lines.map((line) => ({ text: line }));
  const header = lines[0]!.split('\t');
  return lines.slice(1).map((line, i) => {
    const fields = line.split('\t');
    if (fields.length !== header.length)
      throw malformed(file, i + 2, `expected ${header.length} fields, found ${fields.length}`);
    return Object.fromEntries(header.map((name, column) => [name, fields[column]!]));
  });
}

function readCsv(file: string, text: string): DataRow[] {
  const { data, errors } = Papa.parse(text, { header: true, skipEmptyLines: true, delimiter: ',' });
  const first = errors[0];
  if (first !== undefined) throw malformed(file, (first.row ?? 0) + 2, first.message);
  return z.array(rowSchema).parse(data);
}

function malformed(file: string, line: number, problem: string): TrainerError {
  return new TrainerError(
    'SOURCE_MALFORMED',
    `${file} line ${line}: ${problem}; build the data again with build/build.ts`,
  );
}
