/**
 * Measures the speed of reading sources, without tokenization: `npx tsx bench/sources.ts`. One thread; made-up premises, hypotheses and
 * labels in parquet, TFRecord and JSONL files on the local disk, with several row groups each; best of three.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { readSource } from '../mixture/sources/read-unit.ts';
import { resolveSource } from '../mixture/sources/resolve-source.ts';
import { createSourceAccess } from '../mixture/sources/source-access.ts';
import { writeExample, writeTfrecords } from '../mixture/sources/tfrecord/tfrecord.fixture.ts';
import type { SourceFormat } from '../mixture/tasks/task.ts';

const NUM_ROWS = 100_000;
const REPETITIONS = 3;
const WORDS = 'the a of one man woman child walks reads says house river green small never often because while'.split(
  ' ',
);

const folder = mkdtempSync(join(tmpdir(), 'exmix-bench-sources-'));
const access = createSourceAccess({ cacheFolder: join(folder, 'cache') });
const sentence = (seed: number, words: number) =>
  Array.from({ length: words }, (_, i) => WORDS[(seed * 31 + i * 17 + ((seed * i) % 7)) % WORDS.length]).join(' ');
const rows = Array.from({ length: NUM_ROWS }, (_, i) => ({
  premise: `${sentence(i, 20)} ${i}`,
  hypothesis: sentence(i + 7, 10),
  label: i % 3,
}));
const parquet = (codec: 'SNAPPY' | 'UNCOMPRESSED') =>
  new Uint8Array(
    parquetWriteBuffer({
      codec,
      rowGroupSize: 10_000,
      columnData: [
        { name: 'premise', data: rows.map(({ premise }) => premise), type: 'STRING' },
        { name: 'hypothesis', data: rows.map(({ hypothesis }) => hypothesis), type: 'STRING' },
        { name: 'label', data: rows.map(({ label }) => BigInt(label)), type: 'INT64' },
      ],
    }),
  );
const jsonl = Buffer.from(rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
const tfrecord = writeTfrecords(
  rows.map(({ premise, hypothesis, label }) =>
    writeExample({ premise: [premise], hypothesis: [hypothesis], label: { ints: [label] } }),
  ),
);
const textBytes = rows.reduce((sum, { premise, hypothesis }) => sum + premise.length + hypothesis.length, 0);

const cases: readonly [name: string, format: SourceFormat, bytes: Uint8Array, fields: readonly string[]][] = [
  ['all.parquet', 'parquet', parquet('UNCOMPRESSED'), ['premise', 'hypothesis', 'label']],
  ['snappy.parquet', 'parquet', parquet('SNAPPY'), ['premise', 'hypothesis', 'label']],
  ['label.parquet', 'parquet', parquet('SNAPPY'), ['label']],
  ['all.tfrecord', 'tfrecord', tfrecord, ['premise', 'hypothesis', 'label']],
  ['all.jsonl', 'jsonl', jsonl, []],
  ['all.jsonl.gz', 'jsonl', gzipSync(jsonl), []],
];

try {
  for (const [name, format, bytes, requiredFields] of cases) {
    const location = join(folder, name);
    writeFileSync(location, bytes);
    const source = await resolveSource({ kind: 'files', format, quotes: true, files: [{ location, name }] }, access);
    let best = Infinity;
    for (let i = 0; i < REPETITIONS; i++) {
      let numRecords = 0;
      const start = performance.now();
      for await (const batch of readSource(source, { access, requiredFields })) numRecords += batch.length;
      best = Math.min(best, performance.now() - start);
      if (numRecords !== NUM_ROWS) console.log(`${name}: expected ${NUM_ROWS} records, found ${numRecords}`);
    }
    const perSecond = (count: number) => Math.round((count / best) * 1000).toLocaleString('en-US');
    const text =
      requiredFields.includes('premise') || format === 'jsonl' ? `${perSecond(textBytes / 1e6)} MB/s of text, ` : '';
    console.log(`${name}: ${text}${perSecond(bytes.length / 1e6)} MB/s of file, ${perSecond(NUM_ROWS)} records/s`);
  }
} finally {
  rmSync(folder, { recursive: true });
}
