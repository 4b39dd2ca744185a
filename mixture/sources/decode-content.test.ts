import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { deflateSync, gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { parquetWriteBuffer } from 'hyparquet-writer';
import type { FilesSource, SourceFormat } from '../tasks/task.ts';
import { decodeContent, withLineFeeds } from './decode-content.ts';
import { readUnit, type ReadOptions } from './read-unit.ts';
import { resolveSource } from './resolve-source.ts';
import { createSourceAccess } from './source-access.ts';
import { splitSource } from './split-source.ts';
import { writeExample, writeTfrecords } from './tfrecord/tfrecord.fixture.ts';
import { writeZstd } from './zstd.fixture.ts';

const folder = mkdtempSync(join(tmpdir(), 'exmix-content-'));
after(() => rmSync(folder, { recursive: true }));
const access = createSourceAccess({ cacheFolder: join(folder, 'cache'), environment: {} });

let numFiles = 0;

interface Reading extends Partial<ReadOptions> {
  readonly name?: string;
  readonly unitBytes?: number;
  readonly quotes?: boolean;
}

/** Rows as [row, fields or reason]. */
async function read(
  format: SourceFormat,
  content: Uint8Array | string,
  { name = `plain.${format}`, unitBytes = 1e9, quotes = true, ...options }: Reading = {},
): Promise<[number, unknown][]> {
  const location = join(folder, `${numFiles++}-${name}`);
  writeFileSync(location, content);
  const spec: FilesSource = { kind: 'files', format, quotes, files: [{ location, name }] };
  const source = await resolveSource(spec, access);
  const rows: [number, unknown][] = [];
  for (const unit of await splitSource(source, unitBytes, access))
    for await (const batch of readUnit(source, unit, { access, ...options }))
      for (const record of batch) rows.push([record.row, record.ok ? record.fields : record.reason]);
  return rows;
}

const utf16 = (text: string) => Buffer.from(`\ufeff${text}`, 'utf16le');
const utf16be = (text: string) => utf16(text).swap16();
const LINES = '{"q":"é😀"}\r\n\r\n{"q":"b"}\r\n';
const ROWS = [
  [1, { q: 'é😀' }],
  [3, { q: 'b' }],
];
/** `zstd -19 --check` and `zstd -3 --no-check` of six equal lines. */
const ZSTD_OF_TOOL = [
  'KLUv/WQsAD0BAPLBBgzQHQPqxiXlASheGgPQqOfihk3VD2/kDZmqAQIA96oosidzDGrN61Y=',
  'KLUv/WAsAGUBAPB0aGUgY2F0IHNhdCBvbiB0aGUgbWF0IGFuZGhhdAoEAOSqKKAzIZ8NfFvG',
].map((text) => Buffer.from(text, 'base64'));
const TOOL_LINE = 'the cat sat on the mat and the cat sat on the hat';

describe('encoded files are read, whatever their name', () => {
  for (const [what, content] of [
    ['gzip', gzipSync(LINES)],
    ['gzip of two members', Buffer.concat([gzipSync(LINES.slice(0, 5)), gzipSync(LINES.slice(5))])],
    ['zlib', deflateSync(LINES)],
    ['zstd', writeZstd([Buffer.from(LINES)])],
    ['zstd of two frames', writeZstd([Buffer.from(LINES.slice(0, 5)), Buffer.from(LINES.slice(5))])],
    ['UTF-16, little-endian', utf16(LINES)],
    ['UTF-16, big-endian', utf16be(LINES)],
    ['gzip of UTF-16', gzipSync(utf16(LINES))],
    ['gzip of gzip', gzipSync(gzipSync(LINES))],
    ['zstd of UTF-8 with a mark', writeZstd([Buffer.from(`\ufeff${LINES}`)])],
  ] as const)
    for (const name of ['rows', 'rows.jsonl', 'rows.JSONL.GZ', 'rows.jsonl.zst', 'rows.jsonl.bz2'])
      if (!what.startsWith('UTF-16') || !/GZ|zst/u.test(name))
        test(`${what} as ${name}`, async () => {
          assert.deepEqual(await read('jsonl', content, { name, unitBytes: 7 }), ROWS);
        });

  test('frames of the zstd tool', async () => {
    for (const content of ZSTD_OF_TOOL)
      assert.deepEqual(
        await read('text', content),
        [1, 2, 3, 4, 5, 6].map((row) => [row, { text: TOOL_LINE }]),
      );
  });

  test('TFRecord files by gzip, zlib and zstd', async () => {
    const records = writeTfrecords(['a', 'b'].map((text) => writeExample({ q: [text] })));
    for (const content of [gzipSync(records), deflateSync(records), writeZstd([records])])
      assert.deepEqual(await read('tfrecord', content, { name: 'x.tfrecord-00000-of-00001' }), [
        [1, { q: 'a' }],
        [2, { q: 'b' }],
      ]);
  });

  test('text of many chunks in bounded steps', async () => {
    const lines = Array.from({ length: 40_000 }, (_, i) => `line ${i} ${'ü'.repeat(i % 40)}`);
    const expected = lines.map((text, i) => [i + 1, { text }]);
    const content = Buffer.from(`${lines.join('\n')}\n`);
    for (const encoded of [utf16(content.toString()), gzipSync(content), writeZstd([content])])
      assert.deepEqual(await read('text', encoded, { unitBytes: 1_000 }), expected);
  });
});

describe('UTF-16', () => {
  test('half of a surrogate pair makes its line malformed', async () => {
    for (const content of [utf16('a\ud83d\nb\n\ude00\n'), utf16be('a\ud83d\nb\n\ude00\n'), utf16('x\nb\ny\ud83d')]) {
      const rows = await read('text', content);
      assert.deepEqual(rows[1], [2, { text: 'b' }]);
      assert.deepEqual(rows[2], [3, 'the line is not valid UTF-8']);
    }
  });

  test('a file that ends inside a character is SOURCE_UNREADABLE', async () => {
    await assert.rejects(read('text', utf16('ab\n').subarray(0, 7)), {
      code: 'SOURCE_UNREADABLE',
      message: /ends inside a character/,
    });
  });

  test('any text is read as from UTF-8, for any chunks', async () => {
    const text = fc.array(fc.constantFrom('a', 'é', '😀', '\n', '\ufeff', '漢'), { maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(text, fc.integer({ min: 1, max: 9 }), fc.boolean(), async (parts, size, isBigEndian) => {
        const whole = isBigEndian ? utf16be(parts.join('')) : utf16(parts.join(''));
        const { chunks } = await decodeContent(chunksOf(whole, size), 'x', 'text');
        const decoded: Uint8Array[] = [];
        for await (const chunk of chunks) decoded.push(chunk);
        assert.equal(Buffer.concat(decoded).toString(), parts.join(''));
      }),
    );
  });
});

async function* chunksOf(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) {
    await Promise.resolve();
    yield bytes.slice(at, at + size);
  }
}

describe('a file of another kind is SOURCE_UNREADABLE and says what it is and what to do', () => {
  const pointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 12345\n`;
  const page = '<!doctype html><html><body>Please log in</body></html>\n';
  const parquet = new Uint8Array(parquetWriteBuffer({ columnData: [{ name: 'a', data: ['x'] }] }));
  const records = writeTfrecords([writeExample({ q: ['a'] })]);
  for (const [what, content, message] of [
    ['a git-LFS pointer', pointer, /pointer of git-LFS.*git lfs pull/],
    ['HTML', page, /page of HTML/],
    ['gzipped HTML', gzipSync(page), /page of HTML, inside gzip|data compressed by gzip; unpack it/],
    ['XML', '<?xml version="1.0"?><Error/>', /XML document/],
    ['bzip2', 'BZh91AY&SY\0\0', /bzip2.*bunzip2/],
    ['xz', Buffer.from('fd377a585a000004', 'hex'), /by xz.*unxz/],
    ['zip', 'PK\x03\x04\x14\0', /zip archive.*unzip/],
    ['UTF-16 without a mark', Buffer.from('{"a": "plain"}\n', 'utf16le'), /UTF-16 without.*iconv -f UTF-16LE/],
  ] as const)
    for (const format of ['jsonl', 'text', 'csv', 'tsv', 'tfrecord', 'parquet'] as const)
      test(`${what} as ${format}`, async () => {
        for (const unitBytes of [4, 1e9])
          await assert.rejects(read(format, content, { unitBytes, quotes: false }), {
            code: 'SOURCE_UNREADABLE',
            message,
          });
      });

  test('parquet as jsonl, TFRecord as text, text as TFRecord, gzip as parquet', async () => {
    await assert.rejects(read('jsonl', parquet), {
      message: /expected jsonl, found a parquet file; give its format: parquet/,
    });
    await assert.rejects(read('text', records), { message: /found a tfrecord file; give its format/ });
    await assert.rejects(read('tfrecord', 'some text, and more\n'), { code: 'SOURCE_UNREADABLE' });
    await assert.rejects(read('parquet', gzipSync(parquet)), { message: /data compressed by gzip; unpack it/ });
    await assert.rejects(read('parquet', records), { message: /TFRecord file; give its format/ });
  });

  test('text in a file that is called compressed', async () => {
    for (const name of ['a.jsonl.gz', 'a.jsonl.zst'])
      await assert.rejects(read('jsonl', '{}\n', { name }), {
        code: 'SOURCE_UNREADABLE',
        message: /not compressed; rename/,
      });
  });

  test('more encodings inside one another than anyone means', async () => {
    await assert.rejects(read('text', gzipSync(gzipSync(gzipSync(gzipSync('a\n'))))), { message: /gzip of gzip/ });
  });
});

describe('damaged zstd', () => {
  test('that is truncated anywhere, or changed, is SOURCE_UNREADABLE or other text', async () => {
    const [whole] = ZSTD_OF_TOOL as [Buffer];
    for (let length = 6; length < whole.length; length += 3)
      await assert.rejects(read('text', whole.subarray(0, length)), { code: 'SOURCE_UNREADABLE' }, `${length} B`);
    for (let at = 4; at < whole.length; at++) {
      const changed = Buffer.from(whole);
      changed[at]! ^= 0x15;
      await read('text', changed).catch((error: unknown) => {
        assert.ok(error instanceof Error && 'code' in error && error.code === 'SOURCE_UNREADABLE', String(error));
      });
    }
  });

  test('with a window beyond the bound is refused before it is allocated', async () => {
    // Frame header: no single segment, window descriptor 2^(10+20).
    const frame = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x01, 0, 0]);
    await assert.rejects(read('text', frame), { message: /its zstd window has 1073741824 B.*without --long/ });
  });
});

describe('JSON over several lines', () => {
  const rows = [
    [1, { q: 'a', n: [1, { x: ']' }] }],
    [2, { q: 'b' }],
  ];
  const values = rows.map(([, fields]) => fields);
  for (const [what, content] of [
    ['an array on one line', JSON.stringify(values)],
    ['an array with indents', JSON.stringify(values, null, 2)],
    ['an array with a mark and CRLF', `\ufeff${JSON.stringify(values, null, 4).replaceAll('\n', '\r\n')}\r\n`],
    ['objects with indents', values.map((value) => JSON.stringify(value, null, 2)).join('\n')],
    ['objects with indents, and a mark', `\ufeff${values.map((value) => JSON.stringify(value, null, 2)).join('\n')}\n`],
  ] as const)
    test(`${what}, plain, gzipped and in UTF-16, is one unit of records`, async () => {
      for (const encoded of [content, gzipSync(content), utf16(content.replace('\ufeff', ''))])
        assert.deepEqual(await read('jsonl', encoded, { unitBytes: 5 }), rows);
    });

  test('an element that is wrong, no object or too long is one malformed record', async () => {
    const content = `[{"q":"a"},{"q":NaN},\n7,{"q":"\\ud800"},{"q":"${'x'.repeat(300)}"},{"q":"b"},]`;
    const read5 = await read('jsonl', content, { maxRecordBytes: 100 });
    assert.deepEqual(read5, [
      [1, { q: 'a' }],
      [2, 'not JSON: the value starts with "{\\"q\\":NaN}"; at character 6: expected a value, found "NaN}"'],
      [3, 'not a JSON object'],
      [4, 'half of a surrogate pair in "q": the text was cut inside a character'],
      [5, 'the value is longer than 100 B'],
      [6, { q: 'b' }],
      [7, 'not JSON: the value starts with ""; at character 1: expected a value, found the end of the text'],
    ]);
    assert.deepEqual(await read('jsonl', '[]'), []);
  });

  test('an array that is truncated is SOURCE_UNREADABLE', async () => {
    const whole = JSON.stringify(values);
    for (let length = 2; length < whole.length; length++)
      await assert.rejects(read('jsonl', whole.slice(0, length)), { code: 'SOURCE_UNREADABLE', message: /truncated/ });
  });

  test('any values are read, for any layout and chunks', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 2 })), { maxLength: 6 }),
        fc.constantFrom(undefined, 1, '\t'),
        fc.boolean(),
        async (objects, indent, isArray) => {
          const plain = objects.map((object) => ({ ...object, padding: 'x' }));
          const content = isArray
            ? JSON.stringify(plain, null, indent)
            : plain.map((object) => `${JSON.stringify(object, null, indent ?? 1)}\n`).join('');
          const found = await read('jsonl', content);
          const expected = (JSON.parse(JSON.stringify(plain)) as unknown[]).map((value, i) => [i + 1, value]);
          assert.deepEqual(toNumbers(found), toNumbers(expected));
        },
      ),
      { numRuns: 60 },
    );
  });
});

/** Digits as numbers: JSON.parse of the expectation has lost them. */
function toNumbers(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value), (_, entry: unknown) =>
    typeof entry === 'string' && /^-?\d[\d.e+-]*$/u.test(entry) ? Number(entry) : entry,
  );
}

describe('lines that end with a carriage return alone', () => {
  test('are lines of every text format', async () => {
    assert.deepEqual(await read('csv', 'q,a\rfoo,bar\rbaz,"q\rx"\r', { unitBytes: 4 }), [
      [2, { q: 'foo', a: 'bar' }],
      [3, { q: 'baz', a: 'q\nx' }],
    ]);
    assert.deepEqual(await read('jsonl', '{"a":1}\r{"a":2}\r', { unitBytes: 4 }), [
      [1, { a: 1 }],
      [2, { a: 2 }],
    ]);
    assert.deepEqual(await read('text', 'one\rtwo', { unitBytes: 2 }), [
      [1, { text: 'one' }],
      [2, { text: 'two' }],
    ]);
  });

  test('CRLF stays, for any chunks', async () => {
    const part = fc.constantFrom('a', '\r', '\n', '\r\n', 'b');
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 30 }), fc.integer({ min: 1, max: 4 }), async (parts, size) => {
        const text = parts.join('');
        const out: Uint8Array[] = [];
        for await (const chunk of withLineFeeds(chunksOf(Buffer.from(text), size))) out.push(chunk);
        assert.equal(Buffer.concat(out).toString(), text.replace(/\r(?!\n)/gu, '\n'));
      }),
    );
  });
});
