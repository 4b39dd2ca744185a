import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { parquetWriteBuffer } from 'hyparquet-writer';
import type { FilesSource } from '../../tasks/task.ts';
import { readUnit, type ReadOptions } from '../read-unit.ts';
import { resolveSource } from '../resolve-source.ts';
import type { ResolvedSource, SourceUnit } from '../resolved-source.ts';
import { createSourceAccess } from '../source-access.ts';
import { splitSource } from '../split-source.ts';

const folder = mkdtempSync(join(tmpdir(), 'exmix-parquet-'));
after(() => rmSync(folder, { recursive: true }));
const access = createSourceAccess({ cacheFolder: join(folder, 'cache'), environment: {} });

type Table = Parameters<typeof parquetWriteBuffer>[0];
let numFiles = 0;

function write(table: Omit<Table, 'writer'>): FilesSource {
  return writeBytes(new Uint8Array(parquetWriteBuffer(table)));
}

function writeBytes(bytes: Uint8Array): FilesSource {
  const name = `${numFiles++}.parquet`;
  const location = join(folder, name);
  writeFileSync(location, bytes);
  return { kind: 'files', format: 'parquet', quotes: true, files: [{ location, name }] };
}

async function readAll(
  source: ResolvedSource,
  units: readonly SourceUnit[],
  options: Partial<ReadOptions> = {},
): Promise<[number, unknown][]> {
  const records: [number, unknown][] = [];
  for (const unit of units)
    for await (const batch of readUnit(source, unit, { access, ...options }))
      for (const record of batch) records.push([record.row, record.ok ? record.fields : record.reason]);
  return records;
}

async function read(
  source: FilesSource,
  options: Partial<ReadOptions> = {},
  unitBytes = 1e9,
): Promise<[number, unknown][]> {
  const resolved = await resolveSource(source, access);
  return readAll(resolved, await splitSource(resolved, unitBytes, access), options);
}

describe('parquet', () => {
  test('gives plain values: exact integers, ISO times, null, structs and lists', async () => {
    const source = write({
      columnData: [
        { name: 'text', data: ['a', 'é😀'], type: 'STRING' },
        { name: 'small', data: [1n, -(2n ** 40n)], type: 'INT64' },
        { name: 'large', data: [2n ** 62n, 0n], type: 'INT64' },
        { name: 'score', data: [0.5, -1], type: 'DOUBLE' },
        { name: 'flag', data: [true, false], type: 'BOOLEAN' },
        { name: 'at', data: [new Date(0), new Date('2010-01-02T03:04:05.678Z')], type: 'TIMESTAMP' },
        { name: 'maybe', data: ['x', undefined], type: 'STRING', nullable: true },
        { name: 'json', data: [{ a: [1] }, [null]], type: 'JSON' },
        { name: 'bytes', data: [Uint8Array.of(1), Uint8Array.of(255, 0)], type: 'BYTE_ARRAY' },
      ],
    });
    const rows = await read(source, {
      requiredFields: ['text', 'small', 'large', 'score', 'flag', 'at', 'maybe', 'json'],
    });
    assert.deepEqual(rows, [
      [
        1,
        {
          text: 'a',
          small: 1,
          large: '4611686018427387904',
          score: 0.5,
          flag: true,
          at: '1970-01-01T00:00:00.000Z',
          maybe: 'x',
          json: { a: [1] },
        },
      ],
      [
        2,
        {
          text: 'é😀',
          small: -1099511627776,
          large: 0,
          score: -1,
          flag: false,
          at: '2010-01-02T03:04:05.678Z',
          maybe: null,
          json: [null],
        },
      ],
    ]);
  });

  test('reads a struct of lists and a list of structs as the hub stores them', async () => {
    const schema: Table['schema'] = [
      { name: 'root', num_children: 2 },
      { name: 'answers', num_children: 2, repetition_type: 'OPTIONAL' },
      { name: 'text', num_children: 1, repetition_type: 'OPTIONAL', converted_type: 'LIST' },
      { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
      { name: 'element', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL', converted_type: 'UTF8' },
      { name: 'answer_start', num_children: 1, repetition_type: 'OPTIONAL', converted_type: 'LIST' },
      { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
      { name: 'element', type: 'INT32', repetition_type: 'OPTIONAL' },
      { name: 'turns', num_children: 1, repetition_type: 'OPTIONAL', converted_type: 'LIST' },
      { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
      { name: 'element', num_children: 2, repetition_type: 'OPTIONAL' },
      { name: 'id', type: 'INT64', repetition_type: 'OPTIONAL' },
      { name: 'said', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL', converted_type: 'UTF8' },
    ];
    const answers = [
      { text: ['one', 'two'], answer_start: [1, 2] },
      { text: [], answer_start: [] },
    ];
    const turns = [
      [
        { id: 1n, said: 'hi' },
        { id: 2n, said: undefined },
      ],
      [],
    ];
    const source = write({
      schema,
      columnData: [
        { name: 'answers', data: answers },
        { name: 'turns', data: turns },
      ],
    });
    assert.deepEqual(await read(source, { requiredFields: ['answers.text', 'turns'] }), [
      [
        1,
        {
          answers: answers[0],
          turns: [
            { id: 1, said: 'hi' },
            { id: 2, said: null },
          ],
        },
      ],
      [2, { answers: answers[1], turns: [] }],
    ]);
  });

  test('reads only the required columns', async () => {
    const big = Array.from({ length: 2_000 }, (_, i) => `${i} ${'x'.repeat(200)} ${(i * 7919) % 1000}`);
    const source = write({
      codec: 'UNCOMPRESSED',
      columnData: [
        { name: 'big', data: big, type: 'STRING' },
        { name: 'label', data: big.map((_, i) => i % 3), type: 'INT32' },
      ],
    });
    let bytes = 0;
    const rows = await read(source, { requiredFields: ['label'], onBytes: (count) => (bytes += count) });
    assert.deepEqual(rows[1_999], [2_000, { label: 1 }]);
    assert.ok(bytes < 100_000, `${bytes} B read`);
  });

  test('a value that is not UTF-8, not JSON or too long makes only its own row malformed', async () => {
    const invalid = [Buffer.from('ok'), Buffer.from([0xff, 0x41]), Buffer.from('fine')];
    const raw = parquetWriteBuffer({
      codec: 'UNCOMPRESSED',
      columnData: [{ name: 'text', data: ['ok', '~~', 'fine'], type: 'STRING' }],
    });
    const bytes = Buffer.from(raw);
    for (let at = bytes.indexOf('~~'); at !== -1; at = bytes.indexOf('~~', at)) invalid[1]!.copy(bytes, at);
    assert.deepEqual(await read(writeBytes(bytes)), [
      [1, { text: 'ok' }],
      [2, 'column "text" is not valid UTF-8'],
      [3, { text: 'fine' }],
    ]);
    const json = Buffer.from(
      parquetWriteBuffer({ codec: 'UNCOMPRESSED', columnData: [{ name: 'text', data: [[1], ['~~']], type: 'JSON' }] }),
    );
    for (let at = json.indexOf('["~~"]'); at !== -1; at = json.indexOf('["~~"]', at)) json.write('["~~"~', at);
    assert.deepEqual(await read(writeBytes(json)), [
      [1, { text: [1] }],
      [2, 'column "text" is not JSON'],
    ]);
    const long = write({ columnData: [{ name: 'text', data: ['ok', 'x'.repeat(50)], type: 'STRING' }] });
    assert.deepEqual(await read(long, { maxRecordBytes: 20 }), [
      [1, { text: 'ok' }],
      [2, 'the row is longer than 20 B'],
    ]);
  });

  test('a missing column is CONFIG_INVALID with the nearest names', async () => {
    const source = write({
      columnData: [
        { name: 'premise', data: ['a'] },
        { name: 'hypothesis', data: ['b'] },
      ],
    });
    await assert.rejects(read(source, { requiredFields: ['premis', 'hypothesis.x'] }), {
      code: 'CONFIG_INVALID',
      message: /no column "premis"; did you mean premise/,
    });
  });

  test('a file that is truncated anywhere, or is not parquet, is SOURCE_UNREADABLE', async () => {
    const whole = new Uint8Array(
      parquetWriteBuffer({ columnData: [{ name: 'a', data: Array.from({ length: 300 }, (_, i) => `row ${i}`) }] }),
    );
    for (let length = 0; length < whole.length; length += 97)
      await assert.rejects(read(writeBytes(whole.subarray(0, length))), { code: 'SOURCE_UNREADABLE' }, `${length} B`);
    await assert.rejects(read(writeBytes(whole.subarray(0, 500))), {
      message: /truncated at 500 B; download or write/,
    });
    await assert.rejects(read(writeBytes(Buffer.from('{"a": 1}\n'.repeat(9)))), { message: /starts with "\{\\"a\\""/ });
  });

  test('a changed byte gives other values or SOURCE_UNREADABLE, and no other error', async () => {
    const whole = new Uint8Array(
      parquetWriteBuffer({ columnData: [{ name: 'a', data: Array.from({ length: 50 }, (_, i) => `row ${i % 7}`) }] }),
    );
    let numRefused = 0;
    for (let at = 0; at < whole.length; at += 5) {
      const bytes = Uint8Array.from(whole);
      bytes[at]! ^= 0x55;
      await read(writeBytes(bytes)).catch((error: unknown) => {
        assert.ok(error instanceof Error && 'code' in error && error.code === 'SOURCE_UNREADABLE', String(error));
        numRefused += 1;
      });
    }
    assert.ok(numRefused > 10);
  });

  test('reads back any table, for any row groups, pages, compression and units', async () => {
    const row = fc.record({
      text: fc.option(fc.string({ unit: 'binary', maxLength: 12 }), { nil: undefined }),
      count: fc.integer(),
      list: fc.array(fc.constantFrom('a', 'bb', ''), { maxLength: 3 }),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(row, { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 1, max: 10 }),
        fc.constantFrom('SNAPPY' as const, 'UNCOMPRESSED' as const),
        fc.integer({ min: 1, max: 2_000 }),
        async (rows, rowGroupSize, codec, unitBytes) => {
          const source = write({
            rowGroupSize,
            codec,
            pageSize: 64,
            columnData: [
              { name: 'text', data: rows.map(({ text }) => text), type: 'STRING', nullable: true },
              { name: 'count', data: rows.map(({ count }) => count), type: 'INT32' },
              { name: 'list', data: rows.map(({ list }) => list), type: 'JSON' },
            ],
          });
          const expected = rows.map(({ text, count, list }, i) => [i + 1, { text: text ?? null, count, list }]);
          assert.deepEqual(await read(source, {}, unitBytes), expected);
          assert.deepEqual(await read(source), expected);
        },
      ),
      { numRuns: 80 },
    );
  });
});

test('units hold whole row groups of about their size, and each row once', async () => {
  const source = write({
    rowGroupSize: 10,
    codec: 'UNCOMPRESSED',
    columnData: [{ name: 'a', data: Array.from({ length: 205 }, (_, i) => `${'x'.repeat(90)}${i}`), type: 'STRING' }],
  });
  const resolved = await resolveSource(source, access);
  const units = await splitSource(resolved, 4_000, access);
  const parts = units.map(({ part }) => (part.kind === 'rows' ? [part.from, part.to] : assert.fail(part.kind)));
  assert.ok(units.length > 3 && units.length < 10, `${units.length} units`);
  assert.deepEqual(
    parts.map(([from]) => from),
    [0, ...parts.slice(0, -1).map(([, to]) => to)],
  );
  assert.equal(parts.at(-1)![1], 205);
  assert.ok(parts.slice(0, -1).every(([, to]) => to! % 10 === 0));
});
