import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
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

describe('numbers and times of parquet', () => {
  type Element = NonNullable<Table['schema']>[number];

  /** A column by its schema element; a null makes it optional. */
  async function column(element: Omit<Element, 'name'>, data: unknown[]): Promise<unknown[]> {
    const schema: Element[] = [
      { name: 'root', num_children: 1 },
      { name: 'a', repetition_type: data.includes(null) ? 'OPTIONAL' : 'REQUIRED', ...element },
    ];
    return (await read(write({ schema, columnData: [{ name: 'a', data }] }))).map(
      ([, fields]) => (fields as { a: unknown }).a,
    );
  }

  const decimal = (type: Element['type'], scale: number, bytes?: number): Omit<Element, 'name'> => ({
    ...(type === undefined ? {} : { type }),
    ...(bytes === undefined ? {} : { type_length: bytes }),
    converted_type: 'DECIMAL',
    precision: 38,
    scale,
  });

  test('DECIMAL is exact in every physical type, plain and by dictionary', async () => {
    for (const [element, unscaled, expected] of [
      [decimal('INT32', 4), [123456789n, -11000n, 0n], [12345.6789, -1.1, 0]],
      [decimal('INT64', 4), [123456789012345678n, -5n], ['12345678901234.5678', -0.0005]],
      [decimal('INT64', 0), [9007199254740993n, 1n], ['9007199254740993', 1]],
      [
        decimal('FIXED_LEN_BYTE_ARRAY', 2, 16),
        [310n, -5n, 12345678901234567890123456789012n],
        [3.1, -0.05, '123456789012345678901234567890.12'],
      ],
      [decimal('FIXED_LEN_BYTE_ARRAY', 7, 5), [1n, -1n], ['0.0000001', '-0.0000001']],
      [decimal('BYTE_ARRAY', 2), [123456789012345678901n, -100n], ['1234567890123456789.01', -1]],
    ] as const) {
      assert.deepEqual(await column(element, [...unscaled]), expected);
      assert.deepEqual(await column(element, [null, ...unscaled]), [null, ...expected]);
      const many = Array.from({ length: 300 }, (_, i) => unscaled[i % unscaled.length]);
      const expectedMany = many.map((_, i) => expected[i % expected.length]);
      assert.deepEqual(await column(element, many), expectedMany);
    }
  });

  test('any DECIMAL is a number of the same decimal, or its digits', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.bigInt({ min: -(10n ** 38n) + 1n, max: 10n ** 38n - 1n }), { minLength: 1, maxLength: 8 }),
        fc.integer({ min: 0, max: 38 }),
        async (unscaled, scale) => {
          const values = await column(decimal('FIXED_LEN_BYTE_ARRAY', scale, 16), unscaled);
          for (const [i, value] of values.entries()) {
            const text = typeof value === 'number' && /e/u.test(String(value)) ? value.toFixed(38) : String(value);
            const [whole = '', fraction = ''] = text.split('.');
            assert.equal(BigInt(`${whole}${fraction.padEnd(scale, '0').slice(0, scale)}`), unscaled[i], text);
          }
        },
      ),
      { numRuns: 100 },
    );
  });

  test('DECIMAL inside structs, lists and maps is exact', async () => {
    const money = { ...decimal('INT64', 4), repetition_type: 'OPTIONAL' } as const;
    const schema: Table['schema'] = [
      { name: 'root', num_children: 3 },
      { name: 'price', num_children: 1, repetition_type: 'OPTIONAL' },
      { name: 'net', ...money },
      { name: 'prices', num_children: 1, repetition_type: 'OPTIONAL', converted_type: 'LIST' },
      { name: 'list', num_children: 1, repetition_type: 'REPEATED' },
      { name: 'element', ...money },
      { name: 'byName', num_children: 1, repetition_type: 'OPTIONAL', converted_type: 'MAP' },
      { name: 'key_value', num_children: 2, repetition_type: 'REPEATED' },
      { name: 'key', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'REQUIRED' },
      { name: 'value', ...money },
    ];
    const source = write({
      schema,
      columnData: [
        { name: 'price', data: [{ net: 123456789n }, { net: null }] },
        { name: 'prices', data: [[15000n, 123456789012345678n], []] },
        { name: 'byName', data: [{ x: 11000n }, {}] },
      ],
    });
    assert.deepEqual(await read(source), [
      [1, { price: { net: 12345.6789 }, prices: [1.5, '12345678901234.5678'], byName: { x: 1.1 } }],
      [2, { price: { net: null }, prices: [], byName: {} }],
    ]);
  });

  test('TIMESTAMP keeps the digits of its unit, also before 1970 and as INT96', async () => {
    const stamp = (unit: 'MILLIS' | 'MICROS' | 'NANOS') =>
      ({ type: 'INT64', logical_type: { type: 'TIMESTAMP', isAdjustedToUTC: true, unit } }) as const;
    assert.deepEqual(await column(stamp('MILLIS'), [1262401445678n, -1n]), [
      '2010-01-02T03:04:05.678Z',
      '1969-12-31T23:59:59.999Z',
    ]);
    assert.deepEqual(await column(stamp('MICROS'), [1262401445678901n, 1262401445678000n, -1n, null]), [
      '2010-01-02T03:04:05.678901Z',
      '2010-01-02T03:04:05.678Z',
      '1969-12-31T23:59:59.999999Z',
      null,
    ]);
    assert.deepEqual(await column(stamp('NANOS'), [1262401445678901234n, 1262401445678901000n, 5n, -1n]), [
      '2010-01-02T03:04:05.678901234Z',
      '2010-01-02T03:04:05.678901Z',
      '1970-01-01T00:00:00.000000005Z',
      '1969-12-31T23:59:59.999999999Z',
    ]);
    const micros = { type: 'INT64', converted_type: 'TIMESTAMP_MICROS' } as const;
    assert.deepEqual(await column(micros, [1262401445678901n]), ['2010-01-02T03:04:05.678901Z']);
    const table = write({
      schema: [
        { name: 'root', num_children: 1 },
        { name: 'a', type: 'FIXED_LEN_BYTE_ARRAY', type_length: 12, repetition_type: 'REQUIRED' },
      ],
      codec: 'UNCOMPRESSED',
      columnData: [{ name: 'a', data: [1262401445678901234n, -1n].map(int96) }],
    });
    assert.deepEqual(await read(asInt96(table)), [
      [1, { a: '2010-01-02T03:04:05.678901234Z' }],
      [2, { a: '1969-12-31T23:59:59.999999999Z' }],
    ]);
  });

  /** Nanoseconds of the day, then the Julian day; little-endian. */
  function int96(nanos: bigint): Uint8Array {
    const perDay = 86_400_000_000_000n;
    const ofDay = ((nanos % perDay) + perDay) % perDay;
    const bytes = Buffer.alloc(12);
    bytes.writeBigInt64LE(ofDay);
    bytes.writeInt32LE(Number((nanos - ofDay) / perDay + 2_440_588n), 8);
    return bytes;
  }

  /** The writer has no INT96, whose values are the same 12 bytes: changes the type in schema and column, 7 → 3. */
  function asInt96(source: FilesSource): FilesSource {
    const bytes = readFileSync(source.files[0]!.location);
    const footer = bytes.subarray(bytes.length - 8 - bytes.readUInt32LE(bytes.length - 8));
    for (let at = footer.indexOf('150e', 0, 'hex'); at !== -1; at = footer.indexOf('150e', at, 'hex'))
      footer[at + 1] = 6;
    return writeBytes(bytes);
  }

  test('TIME and DATE are a time of the day and a day', async () => {
    const time = (type: 'INT32' | 'INT64', unit: 'MILLIS' | 'MICROS' | 'NANOS') =>
      ({ type, logical_type: { type: 'TIME', isAdjustedToUTC: false, unit } }) as const;
    assert.deepEqual(await column(time('INT32', 'MILLIS'), [45_296_789, 0, null]), ['12:34:56.789', '00:00:00', null]);
    assert.deepEqual(await column(time('INT64', 'MICROS'), [45_296_789_012n, 86_399_999_999n]), [
      '12:34:56.789012',
      '23:59:59.999999',
    ]);
    assert.deepEqual(await column(time('INT64', 'NANOS'), [45_296_789_012_345n, 45_296_000_000_000n]), [
      '12:34:56.789012345',
      '12:34:56',
    ]);
    assert.deepEqual(await column({ type: 'INT64', converted_type: 'TIME_MICROS' }, [1n]), ['00:00:00.000001']);
    const date = { type: 'INT32', converted_type: 'DATE' } as const;
    assert.deepEqual(await column(date, [14_611, -1]), ['2010-01-02', '1969-12-31']);
  });

  test('unsigned integers and half floats', async () => {
    const unsigned = (bitWidth: number, type: 'INT32' | 'INT64') =>
      ({ type, logical_type: { type: 'INTEGER', bitWidth, isSigned: false } }) as const;
    assert.deepEqual(await column(unsigned(32, 'INT32'), [4_294_967_295, 7, null]), [4_294_967_295, 7, null]);
    assert.deepEqual(await column(unsigned(64, 'INT64'), [2n ** 64n - 1n, 7n, null]), [
      '18446744073709551615',
      7,
      null,
    ]);
    assert.deepEqual(await column({ type: 'INT64', converted_type: 'UINT_64' }, [2n ** 64n - 1n, 2n]), [
      '18446744073709551615',
      2,
    ]);
    const half = { type: 'FIXED_LEN_BYTE_ARRAY', type_length: 2, logical_type: { type: 'FLOAT16' } } as const;
    assert.deepEqual(await column(half, [1.5, -0.25, 65504, null]), [1.5, -0.25, 65504, null]);
  });

  test('numbers and half surrogates in JSON columns', async () => {
    const json = { type: 'BYTE_ARRAY', converted_type: 'UTF8' } as const;
    const schema: Element[] = [
      { name: 'root', num_children: 1 },
      { name: 'a', ...json, repetition_type: 'REQUIRED' },
    ];
    const data = ['{"id":9007199254740993}', String.raw`{"id":"\ud83d"}`];
    const bytes = Buffer.from(parquetWriteBuffer({ schema, codec: 'UNCOMPRESSED', columnData: [{ name: 'a', data }] }));
    // The writer makes JSON by itself, so a text column is written and its type changed: UTF8 is 0, JSON is 19.
    const asJson = changeConvertedType(bytes, 19);
    assert.deepEqual(await read(writeBytes(asJson)), [
      [1, { a: { id: '9007199254740993' } }],
      [2, 'column "a" has half of a surrogate pair: the text was cut inside a character'],
    ]);
  });

  /** Thrift compact: field 4 is `name` "a", field 6 is `converted_type`, a zigzag number. */
  function changeConvertedType(bytes: Buffer, type: number): Buffer {
    const at = bytes.lastIndexOf(Buffer.from([0x18, 0x01, 0x61, 0x25, 0x00]));
    assert.notEqual(at, -1);
    bytes[at + 4] = 2 * type;
    return bytes;
  }
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
