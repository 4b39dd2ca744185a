/**
 * Writes a made-up source of any size for bench/prepare.ts: documents of words, as parquet (one row group at a time) or JSONL. The same size
 * gives the same bytes.
 *
 * Words are drawn from the demo's text, so that a token is about as long as in English. A document has 50 to 850 words, drawn uniformly. Only
 * `text` is read; prepare must not read the column `url`.
 */
import { openSync, readFileSync, closeSync, writeSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { fileURLToPath } from 'node:url';
import { fileWriter, ParquetWriter } from 'hyparquet-writer';
import { hashName, RandomStream } from '../shared/random.ts';

const TEXT = fileURLToPath(new URL('../deploy/demo/data/denoising_sotu.txt.gz', import.meta.url));
/** As in the hub's own conversion to parquet. */
const ROWS_PER_GROUP = 10_000;
const ROWS_PER_BATCH = 1_000;

interface Row {
  readonly text: string;
  readonly url: string;
}

/** Row `i` is a function of `i`. */
function createRows(): (i: number) => Row {
  const words = gunzipSync(readFileSync(TEXT)).toString('utf8').split(/\s+/u);
  const key = hashName('bench-prepare');
  return (i) => {
    const random = new RandomStream([key, i]);
    const length = 50 + random.nextBelow(801);
    // Runs of 50 words, so that the tokenizer gets natural text.
    const parts: string[] = [];
    for (let left = length; left > 0; left -= 50) {
      const from = random.nextBelow(words.length - 50);
      parts.push(words.slice(from, from + Math.min(50, left)).join(' '));
    }
    return { text: parts.join(' '), url: `https://example.org/${i}/${random.nextUint32()}` };
  };
}

/** @param bytes approximate bytes of text @returns number of rows */
export async function writeParquet(path: string, bytes: number): Promise<number> {
  const row = createRows();
  const writer = new ParquetWriter({
    writer: fileWriter(path),
    schema: [
      { name: 'root', num_children: 2 },
      { name: 'text', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
      { name: 'url', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
    ],
  });
  let numRows = 0;
  for (let written = 0; written < bytes;) {
    const rows = Array.from({ length: ROWS_PER_GROUP }, () => row(numRows++));
    written += rows.reduce((sum, { text }) => sum + text.length, 0);
    await writer.write({
      columnData: [
        { name: 'text', data: rows.map(({ text }) => text) },
        { name: 'url', data: rows.map(({ url }) => url) },
      ],
      rowGroupSize: ROWS_PER_GROUP,
    });
  }
  await writer.finish();
  return numRows;
}

/** @param bytes approximate bytes of text @returns number of rows */
export function writeJsonl(path: string, bytes: number): Promise<number> {
  const row = createRows();
  const file = openSync(path, 'w');
  let numRows = 0;
  for (let written = 0; written < bytes;) {
    const lines = Array.from({ length: ROWS_PER_BATCH }, () => `${JSON.stringify(row(numRows++))}\n`).join('');
    written += writeSync(file, lines);
  }
  closeSync(file);
  return Promise.resolve(numRows);
}
