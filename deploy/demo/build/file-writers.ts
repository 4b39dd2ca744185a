/**
 * Duty: writes rows as a data file in one of the formats that `exmix prepare` reads. Names that end in `.gz` are
 * compressed. The same rows give the same bytes with the same Node version: gzip's time stamp is 0 and its system byte
 * is 255 ("unknown").
 */

import { writeFileSync } from 'node:fs';
import { constants, gzipSync } from 'node:zlib';
import Papa from 'papaparse';
import { TrainerError } from '../../../shared/errors.ts';

/** Only rows of JSON have lists. */
export type Row = Readonly<Record<string, string | number | readonly string[]>>;

/** One JSON object per line, UTF-8, LF. */
export function writeJsonLines(file: string, rows: readonly Row[]): void {
  writeMaybeCompressed(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
}

/** RFC 4180 with a header line. Fields with a comma, a quote or a line end are quoted. LF. */
export function writeCsv(file: string, rows: readonly Row[]): void {
  writeMaybeCompressed(file, `${Papa.unparse([...rows], { newline: '\n' })}\n`);
}

/**
 * A header line, then one row per line, without quotes. @throws TrainerError INTERNAL if a field has a tab, a line end
 * or a quote
 */
export function writeTsv(file: string, rows: readonly Row[]): void {
  const header = Object.keys(rows[0] ?? {});
  const lines = rows.map((row) => header.map((name) => String(row[name])).join('\t'));
  for (const line of lines)
    if (/["\n\r]/.test(line) || line.split('\t').length !== header.length)
      throw new TrainerError(
        'INTERNAL',
        `${file}: expected ${header.length} plain fields, found ${JSON.stringify(line)}`,
      );
  writeMaybeCompressed(file, `${[header.join('\t'), ...lines].join('\n')}\n`);
}

/** One document per line. @throws TrainerError INTERNAL if a document is blank or has a line end */
export function writeDocuments(file: string, documents: readonly string[]): void {
  for (const document of documents)
    if (document.trim() === '' || /[\n\r]/.test(document))
      throw new TrainerError('INTERNAL', `${file}: expected one non-blank line, found ${JSON.stringify(document)}`);
  writeMaybeCompressed(file, documents.map((document) => `${document}\n`).join(''));
}

function writeMaybeCompressed(file: string, text: string): void {
  if (!file.endsWith('.gz')) {
    writeFileSync(file, text);
    return;
  }
  const bytes = gzipSync(text, { level: constants.Z_BEST_COMPRESSION });
  bytes.fill(0, 4, 8); // MTIME
  bytes[9] = 255; // OS
  writeFileSync(file, bytes);
}
