import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import papa from 'papaparse';
import type { FilesSource, SourceFormat } from '../tasks/task.ts';
import { readSource, readUnit, type ReadOptions } from './read-unit.ts';
import type { ResolvedSource, SourceUnit } from './resolved-source.ts';
import { resolveSource } from './resolve-source.ts';
import { createSourceAccess } from './source-access.ts';
import { splitSource } from './split-source.ts';
import { LineSplitter } from './text-lines.ts';

const folder = mkdtempSync(join(tmpdir(), 'exmix-sources-'));
after(() => rmSync(folder, { recursive: true }));
const access = createSourceAccess({ cacheFolder: join(folder, 'cache'), environment: {} });

let numFiles = 0;
function sourceOf(
  format: SourceFormat,
  content: string | Uint8Array,
  extra: { gz?: boolean; quotes?: boolean } = {},
): FilesSource {
  const name = `${numFiles++}.${format}${extra.gz === true ? '.gz' : ''}`;
  const location = join(folder, name);
  writeFileSync(location, extra.gz === true ? gzipSync(content) : content);
  return { kind: 'files', format, quotes: extra.quotes ?? true, files: [{ location, name }] };
}

/** Records as [line, fields] or [line, reason], or as [line, reason, lines] if a record took several lines. */
async function read(source: FilesSource, options: Partial<ReadOptions> = {}): Promise<[number, unknown, number?][]> {
  const rows: [number, unknown, number?][] = [];
  for await (const batch of readSource(await resolveSource(source, access), { access, ...options }))
    for (const record of batch) {
      if (record.ok) rows.push([record.row, record.fields]);
      else rows.push(record.rows === 1 ? [record.row, record.reason] : [record.row, record.reason, record.rows]);
    }
  return rows;
}

const invalidUtf8 = (before: string, behind: string) =>
  Buffer.concat([Buffer.from(before), Buffer.from([0xff, 0xc3, 0x28]), Buffer.from(behind)]);

describe('jsonl', () => {
  for (const gz of [false, true])
    test(`gives objects with their line, skips blank lines, and does not need a last line break${gz ? ' (gzip)' : ''}`, async () => {
      const rows = await read(sourceOf('jsonl', '\uFEFF{"a":1}\r\n\n  \n{"a":"é\\n😀"}', { gz }));
      assert.deepEqual(rows, [
        [1, { a: 1 }],
        [4, { a: 'é\n😀' }],
      ]);
    });

  test('reports lines that are not JSON, not an object, not UTF-8 or too long, and continues', async () => {
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
  test('read names from the header; quoted fields may hold delimiters, quotes and line breaks', async () => {
    const rows = await read(sourceOf('csv', 'a, b\n1,"x, ""y""\nz"\n\n2,5" pipe\n'));
    assert.deepEqual(rows, [
      [2, { a: '1', b: 'x, "y"\nz' }],
      [5, { a: '2', b: '5" pipe' }],
    ]);
  });

  test('quotes: false makes a quote an ordinary character', async () => {
    const content = 'a\tb\n"open\tx\nit""s\t"y"\n';
    assert.deepEqual(await read(sourceOf('tsv', content, { quotes: false, gz: true })), [
      [2, { a: '"open', b: 'x' }],
      [3, { a: 'it""s', b: '"y"' }],
    ]);
  });

  test('report a wrong number of fields, an unclosed quote, invalid UTF-8 and a record that is too long', async () => {
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

  test('an unclosed quote in a TSV takes no other row with it', async () => {
    const unclosed =
      'a quoted field holds a tab and a line end: its quote is not closed; if quotes are ordinary characters in this file, set quotes: false';
    const inside =
      'a quote is inside a quoted field; if quotes are ordinary characters in this file, set quotes: false';
    assert.deepEqual(await read(sourceOf('tsv', 'q\ta\n"open one\t1\nclosed two"\t2\n"three\n4"\t3\n')), [
      [2, unclosed],
      [3, { q: 'closed two"', a: '2' }],
      [4, { q: 'three\n4', a: '3' }],
    ]);
    assert.deepEqual(await read(sourceOf('tsv', 'q\ta\n1\t"open\n2\tx\n3\t"tab\tin one line"\n4\t"y\n"5"\tz\n')), [
      [2, unclosed],
      [3, { q: '2', a: 'x' }],
      [4, { q: '3', a: 'tab\tin one line' }],
      [5, inside, 2],
    ]);
    // A comma and a line end in a field are usual in a CSV.
    assert.deepEqual(await read(sourceOf('csv', 'q,a\n"one, two\nthree",1\n')), [
      [2, { q: 'one, two\nthree', a: '1' }],
    ]);
    await assert.rejects(read(sourceOf('tsv', '"q\ta\nx"\ty\n')), { message: /header row: .*set quotes: false/ });
  });

  test('a quote inside a quoted field is malformed, and the reason names quotes: false', async () => {
    for (const format of ['csv', 'tsv'] as const) {
      const delimiter = format === 'csv' ? ',' : '\t';
      const rows = await read(sourceOf(format, `q${delimiter}a\n"x "y" z"${delimiter}1\nx${delimiter}2\n`));
      assert.match(String(rows[0]![1]), /a quote is inside a quoted field; .*set quotes: false/);
      assert.deepEqual(rows[1], [3, { q: 'x', a: '2' }]);
    }
  });

  test('a first line sep=; sets the delimiter, with and without quotes', async () => {
    for (const quotes of [true, false])
      for (const line of ['sep=;', 'SEP=;', '"sep=;"']) {
        const source = await resolveSource(
          sourceOf('csv', `\ufeff${line}\r\nq;a\r\nx, y;1\r\nz;2\r\n`, { quotes }),
          access,
        );
        assert.deepEqual(await collect(source, await splitSource(source, 5, access)), [
          { q: 'x, y', a: '1' },
          { q: 'z', a: '2' },
        ]);
      }
    assert.deepEqual(await read(sourceOf('csv', 'sep=,\nq,a\nfoo,1\n')), [[3, { q: 'foo', a: '1' }]]);
    const exported = '#TYPE System.Management.Automation.PSCustomObject\r\n"q","a"\r\n"foo","1"\r\n';
    assert.deepEqual(await read(sourceOf('csv', exported)), [[3, { q: 'foo', a: '1' }]]);
  });

  test('a header with another delimiter says which, and what to do', async () => {
    for (const [format, header, message] of [
      ['csv', '"q";"a"', /delimiter ";", not ",": put the line sep=; before the header/],
      ['csv', 'q;a', /delimiter ";", not ","/],
      ['csv', 'q\ta', /delimiter a tab, not ",": give format: tsv/],
      ['csv', 'q|a|b', /delimiter "\|"/],
      ['tsv', 'q,a', /delimiter ",", not a tab: give format: csv/],
    ] as const)
      await assert.rejects(read(sourceOf(format, `${header}\nx\n`), { requiredFields: ['q', 'a'] }), { message });
  });

  test('columns without a name have no field, and are never a hint', async () => {
    assert.deepEqual(await read(sourceOf('csv', 'q,a,,\nfoo,bar,,x\n')), [[2, { q: 'foo', a: 'bar' }]]);
    assert.deepEqual(await read(sourceOf('csv', ',q\n0,foo\n')), [[2, { q: 'foo' }]]);
    await assert.rejects(read(sourceOf('csv', ',a\n0,foo\n'), { requiredFields: ['question'] }), {
      message: /no column "question"; columns: a$/,
    });
    await assert.rejects(read(sourceOf('csv', '\n,\n'), { requiredFields: ['q'] }), { message: /; columns: none$/ });
  });

  test('if the header lacks a required column, the error names the nearest column', async () => {
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

  test('reads back any table that Papa Parse writes', async () => {
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
  test('each line is a record with the field "text"', async () => {
    assert.deepEqual(await read(sourceOf('text', 'In the beginning\n\n  God created \n')), [
      [1, { text: 'In the beginning' }],
      [3, { text: '  God created ' }],
    ]);
  });
});

describe('line splitter', () => {
  test('gives the same lines for any chunks, and keeps no more bytes than its bound', () => {
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
  test('are read in order, each with its own rows, bytes and version', async () => {
    const first = sourceOf('text', 'a\n');
    const second = sourceOf('text', 'b', { gz: true });
    const source: FilesSource = { ...first, files: [...first.files, ...second.files] };
    let numBytes = 0;
    const rows = await read(source, { onBytes: (count) => (numBytes += count) });
    assert.deepEqual(rows, [
      [1, { text: 'a' }],
      [1, { text: 'b' }],
    ]);
    const { files } = await resolveSource(source, access);
    assert.equal(files[0]!.version, `sha256:${createHash('sha256').update('a\n').digest('hex')}`);
    assert.equal(
      files.reduce((sum, { bytes }) => sum + bytes, 0),
      numBytes,
    );
  });

  test('if files are missing, one SOURCE_UNREADABLE names all of them', async () => {
    const files = ['x.txt', 'y.txt'].map((name) => ({ name, location: join(folder, name) }));
    const source: FilesSource = { kind: 'files', format: 'text', quotes: true, files };
    await assert.rejects(resolveSource(source, access), { code: 'SOURCE_UNREADABLE', message: /x\.txt[^]*y\.txt/ });
    const gone = sourceOf('text', 'a\n');
    const resolved = await resolveSource(gone, access);
    rmSync(gone.files[0]!.location);
    await assert.rejects(readSource(resolved, { access }).next(), {
      code: 'SOURCE_UNREADABLE',
      message: new RegExp(gone.files[0]!.name),
    });
  });

  test('if a file changes between resolving and reading, the error is SOURCE_UNREADABLE, even with equal size and time', async () => {
    const source = sourceOf('text', 'a\n');
    const { location } = source.files[0]!;
    const resolved = await resolveSource(source, access);
    const { atime, mtime } = statSync(location);
    writeFileSync(location, 'b\n');
    utimesSync(location, atime, mtime);
    const reading = async () => {
      for await (const batch of readSource(resolved, { access })) assert.ok(batch);
    };
    await assert.rejects(reading, { code: 'SOURCE_UNREADABLE', message: /changed while it was/ });
  });

  test('truncated or invalid gzip is SOURCE_UNREADABLE and names the file', async () => {
    const whole = gzipSync('some text\n'.repeat(1000));
    for (const bytes of [whole.subarray(0, whole.length - 9), Buffer.from('not gzip at all')]) {
      const name = `${numFiles++}.txt.gz`;
      writeFileSync(join(folder, name), bytes);
      const files = [{ name, location: join(folder, name) }];
      const source: FilesSource = { kind: 'files', format: 'text', quotes: true, files };
      await assert.rejects(read(source), { code: 'SOURCE_UNREADABLE', message: new RegExp(name) });
    }
  });

  test('an abort stops reading with ABORTED', async () => {
    const source = sourceOf('text', 'line\n'.repeat(200_000));
    const controller = new AbortController();
    const reading = read(source, { signal: controller.signal, onBytes: () => controller.abort() });
    await assert.rejects(reading, { code: 'ABORTED' });
  });
});

describe('units', () => {
  for (const [format, quotes] of [
    ['jsonl', true],
    ['text', true],
    ['tsv', false],
    ['csv', false],
  ] as const)
    test(`of ${format} give each record once, in order, for any unit size`, async () => {
      const line = fc.constantFrom('', 'a', 'é', '😀😀', 'bcdefgh'.repeat(3), '\ufeffx', 'a\r');
      await fc.assert(
        fc.asyncProperty(
          fc.array(line, { maxLength: 12 }),
          fc.boolean(),
          fc.integer({ min: 1, max: 40 }),
          fc.constantFrom('column\n', '\n\ncolumn\n', 'sep=;\ncolumn\n'),
          async (lines, ends, size, start) => {
            const header = format === 'tsv' || format === 'csv' ? start : '';
            const body = lines
              .map((text) => (format === 'jsonl' && text !== '' ? JSON.stringify({ text }) : text))
              .join('\n');
            const source = await resolveSource(
              sourceOf(format, `${header}${body}${ends ? '\n' : ''}`, { quotes }),
              access,
            );
            const whole = await collect(source, [{ file: 0, part: { kind: 'whole' }, bytes: 0 }]);
            const units = await splitSource(source, size, access);
            assert.ok(units.length === 1 || units.every(({ bytes }) => bytes <= 2 * size));
            assert.deepEqual(await collect(source, units), whole);
          },
        ),
        { numRuns: 60 },
      );
    });

  test('of files that cannot be split are whole files', async () => {
    const quoted = sourceOf('csv', `a\n${'1\n'.repeat(100)}`);
    const zipped = sourceOf('jsonl', '{}\n'.repeat(100), { gz: true });
    for (const source of [quoted, zipped]) {
      const units = await splitSource(await resolveSource(source, access), 10, access);
      assert.deepEqual(
        units.map(({ file, part }) => [file, part.kind]),
        [[0, 'whole']],
      );
    }
  });
});

async function collect(source: ResolvedSource, units: readonly SourceUnit[]): Promise<unknown[]> {
  const records: unknown[] = [];
  for (const unit of units)
    for await (const batch of readUnit(source, unit, { access }))
      for (const record of batch) records.push(record.ok ? record.fields : [record.reason, record.rows]);
  return records;
}
