import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import papa from 'papaparse';
import type { SourceFormat, SourceSpec } from '../tasks/task.ts';
import { identifyFile, measureSources, readSource, type ReadOptions } from './read-source.ts';
import { LineSplitter } from './text-lines.ts';

const folder = mkdtempSync(join(tmpdir(), 'exmix-sources-'));
after(() => rmSync(folder, { recursive: true }));

let numFiles = 0;
function sourceOf(
  format: SourceFormat,
  content: string | Uint8Array,
  extra: { gz?: boolean; quotes?: boolean } = {},
): SourceSpec {
  const relativePath = `${numFiles++}.${format}${extra.gz === true ? '.gz' : ''}`;
  writeFileSync(join(folder, relativePath), extra.gz === true ? gzipSync(content) : content);
  return { format, quotes: extra.quotes ?? true, files: [{ path: join(folder, relativePath), relativePath }] };
}

/** Records as [line, fields] or [line, reason] or, where it took more than one line, [line, reason, lines]. */
async function read(source: SourceSpec, options: ReadOptions = {}): Promise<[number, unknown, number?][]> {
  const rows: [number, unknown, number?][] = [];
  for await (const batch of readSource(source, options))
    for (const record of batch) {
      if (record.ok) rows.push([record.line, record.fields]);
      else rows.push(record.lines === 1 ? [record.line, record.reason] : [record.line, record.reason, record.lines]);
    }
  return rows;
}

const invalidUtf8 = (before: string, behind: string) =>
  Buffer.concat([Buffer.from(before), Buffer.from([0xff, 0xc3, 0x28]), Buffer.from(behind)]);

describe('jsonl', () => {
  for (const gz of [false, true])
    test(`gives objects with their line, skips blank lines, needs no last line break${gz ? ' (gzip)' : ''}`, async () => {
      const rows = await read(sourceOf('jsonl', '\uFEFF{"a":1}\r\n\n  \n{"a":"é\\n😀"}', { gz }));
      assert.deepEqual(rows, [
        [1, { a: 1 }],
        [4, { a: 'é\n😀' }],
      ]);
    });

  test('tells what is not JSON, not an object, not UTF-8 or too long, and reads on', async () => {
    const content = invalidUtf8(`{"a":1\n[1]\nnull\n{"a":"${'x'.repeat(200)}"}\n{"a":"`, '"}\n{"a":2}\n');
    const rows = await read(sourceOf('jsonl', content), { maxRecordBytes: 100 });
    assert.deepEqual(
      rows.map(([line]) => line),
      [1, 2, 3, 4, 5, 6],
    );
    assert.match(String(rows[0]![1]), /^not JSON/);
    assert.equal(rows[1]![1], 'not a JSON object');
    assert.equal(rows[2]![1], 'not a JSON object');
    assert.equal(rows[3]![1], 'the line is longer than 100 B');
    assert.equal(rows[4]![1], 'the line is not valid UTF-8');
    assert.deepEqual(rows[5]![1], { a: 2 });
  });
});

describe('csv and tsv', () => {
  test('take names from the header; quoted fields hold delimiters, quotes and line breaks', async () => {
    const rows = await read(sourceOf('csv', 'a, b\n1,"x, ""y""\nz"\n\n2,5" pipe\n'));
    assert.deepEqual(rows, [
      [2, { a: '1', b: 'x, "y"\nz' }],
      [5, { a: '2', b: '5" pipe' }],
    ]);
  });

  test('quotes: false reads a quote as a character', async () => {
    const content = 'a\tb\n"open\tx\nit""s\t"y"\n';
    assert.deepEqual(await read(sourceOf('tsv', content, { quotes: false, gz: true })), [
      [2, { a: '"open', b: 'x' }],
      [3, { a: 'it""s', b: '"y"' }],
    ]);
  });

  test('tell a wrong number of fields, an unclosed quote, bad UTF-8 and a record that is too long', async () => {
    assert.deepEqual(await read(sourceOf('csv', 'a,b\n1\n1,2,3\n1,2\n3,"open\n4,5\n')), [
      [2, '1 fields, but the header has 2'],
      [3, '3 fields, but the header has 2'],
      [4, { a: '1', b: '2' }],
      [5, 'a quoted field is not closed before the end of the file', 2],
    ]);
    assert.deepEqual(await read(sourceOf('csv', invalidUtf8('a,b\n1,', '\n1,2\n'))), [
      [2, 'the line is not valid UTF-8'],
      [3, { a: '1', b: '2' }],
    ]);
    const long = `a,b\n1,"${'x\n'.repeat(30)}\n1,2\n`;
    assert.deepEqual(await read(sourceOf('csv', long), { maxRecordBytes: 60 }), [
      [2, 'the record is longer than 60 characters', 29],
      [31, '1 fields, but the header has 2'],
      [33, { a: '1', b: '2' }],
    ]);
  });

  test('a header without a column that is needed names the nearest one', async () => {
    const source = sourceOf('tsv', 'word\tgloss\nx\ty\n');
    await assert.rejects(read(source, { requiredFields: ['wrod', 'gloss'] }), {
      code: 'CONFIG_INVALID',
      message: /no column "wrod"; did you mean word/,
    });
  });

  for (const [what, header] of [
    ['with a name twice', 'a,a\n'],
    ['that is not UTF-8', invalidUtf8('a,', '\n')],
  ] as const)
    test(`a header ${what} is SOURCE_UNREADABLE`, async () => {
      await assert.rejects(read(sourceOf('csv', header)), { code: 'SOURCE_UNREADABLE' });
    });

  test('any table written by Papa Parse is read back, whatever its fields hold', async () => {
    const field = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', ' ', 'é', '\t'), maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(field, field), { minLength: 1, maxLength: 6 }), async (table) => {
        const content = papa.unparse([['x', 'y'], ...table], { newline: '\n', quotes: true });
        const rows = await read(sourceOf('csv', content));
        assert.deepEqual(
          rows.map(([, fields]) => fields),
          table.map(([x, y]) => ({ x, y })),
        );
      }),
      { numRuns: 150 },
    );
  });
});

describe('text', () => {
  test('a line is a record with the field "text"', async () => {
    assert.deepEqual(await read(sourceOf('text', 'In the beginning\n\n  God created \n')), [
      [1, { text: 'In the beginning' }],
      [3, { text: '  God created ' }],
    ]);
  });
});

describe('line splitter', () => {
  test('gives the same lines however the bytes are cut, and holds no more than its bound', () => {
    const content = fc.array(fc.constantFrom('a', 'é', '\n', '\r\n', '😀', 'bcdefgh', '\ufeff'), { maxLength: 40 });
    fc.assert(
      fc.property(
        content,
        fc.array(fc.nat(6), { maxLength: 60 }),
        fc.integer({ min: 4, max: 12 }),
        (parts, cuts, bound) => {
          const bytes = Buffer.from(parts.join(''));
          const expected = parts.join('').split('\n');
          if (expected.at(-1) === '') expected.pop();
          const splitter = new LineSplitter(bound);
          const lines = [];
          let at = 0;
          for (const cut of [...cuts, bytes.length]) {
            lines.push(...splitter.push(bytes.subarray(at, at + cut)));
            at = Math.min(bytes.length, at + cut);
          }
          lines.push(...splitter.push(bytes.subarray(at)), ...splitter.flush());
          assert.deepEqual(
            lines.map(({ line }) => line),
            expected.map((_, i) => i + 1),
          );
          for (const [i, line] of lines.entries()) {
            const text = expected[i]!;
            assert.equal(line.ok, Buffer.byteLength(text) <= bound);
            if (!line.ok) continue;
            const unmarked = i === 0 ? text.replace(/^\ufeff/u, '') : text;
            assert.equal(line.text, unmarked.replace(/\r$/u, ''));
          }
        },
      ),
      { numRuns: 400 },
    );
  });
});

describe('source files', () => {
  test('are read one after the other, each with its own lines, bytes and hash', async () => {
    const first = sourceOf('text', 'a\n');
    const second = sourceOf('text', 'b', { gz: true });
    const source: SourceSpec = { ...first, files: [...first.files, ...second.files] };
    const ended: string[] = [];
    let numBytes = 0;
    const rows = await read(source, {
      onBytes: (count) => (numBytes += count),
      onFileEnd: (_file, sha256) => ended.push(sha256),
    });
    assert.deepEqual(rows, [
      [1, { text: 'a' }],
      [1, { text: 'b' }],
    ]);
    const identities = await Promise.all(source.files.map((file) => identifyFile(file)));
    assert.deepEqual(
      identities.map(({ sha256 }) => sha256),
      ended,
    );
    assert.equal(ended[0], createHash('sha256').update('a\n').digest('hex'));
    assert.equal(
      identities.reduce((sum, { bytes }) => sum + bytes, 0),
      numBytes,
    );
    assert.deepEqual(
      (await measureSources([source])).flat(),
      identities.map(({ bytes }) => bytes),
    );
  });

  test('that are missing are SOURCE_UNREADABLE, all named at once', async () => {
    const files = ['x.txt', 'y.txt'].map((relativePath) => ({ relativePath, path: join(folder, relativePath) }));
    const source: SourceSpec = { format: 'text', quotes: true, files };
    await assert.rejects(measureSources([source]), { code: 'SOURCE_UNREADABLE', message: /x\.txt[^]*y\.txt/ });
    await assert.rejects(read(source), { code: 'SOURCE_UNREADABLE', message: /x\.txt/ });
    await assert.rejects(identifyFile(files[0]!), { code: 'SOURCE_UNREADABLE', message: /x\.txt/ });
  });

  test('truncated or fake gzip is SOURCE_UNREADABLE, with the name of the file', async () => {
    const whole = gzipSync('some text\n'.repeat(1000));
    for (const bytes of [whole.subarray(0, whole.length - 9), Buffer.from('not gzip at all')]) {
      const relativePath = `${numFiles++}.txt.gz`;
      writeFileSync(join(folder, relativePath), bytes);
      const source: SourceSpec = {
        format: 'text',
        quotes: true,
        files: [{ relativePath, path: join(folder, relativePath) }],
      };
      await assert.rejects(read(source), { code: 'SOURCE_UNREADABLE', message: new RegExp(relativePath) });
    }
  });

  test('an abort ends reading with ABORTED', async () => {
    const source = sourceOf('text', 'line\n'.repeat(200_000));
    const controller = new AbortController();
    const reading = read(source, { signal: controller.signal, onBytes: () => controller.abort() });
    await assert.rejects(reading, { code: 'ABORTED' });
  });
});
