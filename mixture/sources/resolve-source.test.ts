import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { serve, startFaultyServer } from '../../shared/storage/faulty-server.fixture.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import { startS3Server } from '../../shared/storage/s3-server.fixture.ts';
import type { FilesSource, SourceFormat } from '../tasks/task.ts';
import { createGlob, globFolder, isGlob } from './glob.ts';
import { readSource } from './read-unit.ts';
import { resolveSource } from './resolve-source.ts';
import { createSourceAccess, type SourceAccess } from './source-access.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-expand-'));
after(() => rmSync(root, { recursive: true }));
const access = createSourceAccess({ cacheFolder: join(root, 'cache'), environment: {} });

const sourceOf = (location: string, name: string, format: SourceFormat = 'text'): FilesSource => ({
  kind: 'files',
  format,
  quotes: true,
  files: [{ location, name }],
});

async function textsOf(source: FilesSource, by: SourceAccess = access): Promise<unknown[]> {
  const texts: unknown[] = [];
  for await (const batch of readSource(await resolveSource(source, by), { access: by }))
    for (const record of batch) texts.push(record.ok ? record.fields['text'] : record.reason);
  return texts;
}

test('globs match within a folder, across folders and by choice', () => {
  const cases: [string, string, boolean][] = [
    ['a/*.txt', 'a/b.txt', true],
    ['a/*.txt', 'a/b/c.txt', false],
    ['a/**/*.txt', 'a/c.txt', true],
    ['a/**/*.txt', 'a/b/d/c.txt', true],
    ['a/**', 'a/b/c', true],
    ['a/?.txt', 'a/b.txt', true],
    ['a/?.txt', 'a/bb.txt', false],
    ['{a,b*}/x-{1,2}.gz', 'bcd/x-2.gz', true],
    ['{a,b*}/x-{1,2}.gz', 'c/x-2.gz', false],
    ['a.b', 'a.b', true],
    ['a.b', 'axb', false],
    ['a+(b)[c]$^', 'a+(b)[c]$^', true],
  ];
  for (const [pattern, path, expected] of cases)
    assert.equal(createGlob(pattern)(path), expected, `${pattern} ${path}`);
  assert.deepEqual(
    ['a/b*/c', '*', 'a/b.txt', 'a/{b,c}/d'].map((pattern) => globFolder(pattern)),
    ['a', '', 'a', 'a'],
  );
  assert.deepEqual(
    ['a*', 'a?', '{a,b}', '{a}', 'a[1]'].map((pattern) => isGlob(pattern)),
    [true, true, true, false, false],
  );
});

describe('a file of a mixture', () => {
  test('may be a folder or a glob on disk; names keep the prefix of the mixture', async () => {
    const folder = join(root, 'data');
    mkdirSync(join(folder, 'part=2'), { recursive: true });
    for (const [name, text] of [
      ['b.txt', 'b'],
      ['a.txt', 'a'],
      ['part=2/c.txt', 'c'],
      ['_SUCCESS', 'x'],
      ['.hidden', 'x'],
      ['odd*.txt', 'odd'],
    ] as const)
      writeFileSync(join(folder, name), text);
    const { files } = await resolveSource(sourceOf(folder, 'data'), access);
    assert.deepEqual(
      files.map(({ name, location }) => [name, location]),
      ['a.txt', 'b.txt', 'odd*.txt', 'part=2/c.txt'].map((name) => [`data/${name}`, join(folder, name)]),
    );
    assert.deepEqual(await textsOf(sourceOf(`${folder}/`, 'data/')), ['a', 'b', 'odd', 'c']);
    const glob = await resolveSource(sourceOf(join(folder, '?.txt'), 'data/?.txt'), access);
    assert.deepEqual(
      glob.files.map(({ name }) => name),
      ['data/a.txt', 'data/b.txt'],
    );
    assert.deepEqual(await textsOf(sourceOf(join(folder, 'odd*.txt'), 'odd*.txt')), ['odd']);
    await assert.rejects(resolveSource(sourceOf(join(folder, '*.gz'), 'data/*.gz'), access), {
      code: 'SOURCE_UNREADABLE',
      message: /data\/\*\.gz.*no file matches/,
    });
  });

  test('may be below a folder whose name has the characters of a glob', async () => {
    for (const odd of ['what?', 'set {a,b}', 'empty{}', 'star*', '{x', 'a[1]']) {
      const folder = join(root, 'odd', odd, 'deep');
      mkdirSync(join(folder, 'part {1}'), { recursive: true });
      writeFileSync(join(folder, '1.txt'), `${odd} 1`);
      writeFileSync(join(folder, '2.txt'), `${odd} 2`);
      writeFileSync(join(folder, 'part {1}', '3.txt'), `${odd} 3`);
      assert.deepEqual(await textsOf(sourceOf(join(folder, '?.txt'), 'deep/?.txt')), [`${odd} 1`, `${odd} 2`]);
      assert.deepEqual(await textsOf(sourceOf(join(folder, '{1,2}.txt'), '{1,2}.txt')), [`${odd} 1`, `${odd} 2`]);
      assert.deepEqual(await textsOf(sourceOf(folder, 'deep')), [`${odd} 1`, `${odd} 2`, `${odd} 3`]);
      assert.deepEqual(await textsOf(sourceOf(join(folder, '1.txt'), 'deep/1.txt')), [`${odd} 1`]);
      const { files } = await resolveSource(sourceOf(join(folder, 'part {1}', '*.txt'), 'part {1}/*.txt'), access);
      assert.deepEqual(
        files.map(({ name }) => name),
        ['part {1}/3.txt'],
      );
      await assert.rejects(resolveSource(sourceOf(join(folder, '9.txt'), 'deep/9.txt'), access), {
        code: 'SOURCE_UNREADABLE',
        message: /deep\/9\.txt cannot be read/,
      });
    }
    assert.deepEqual(await textsOf(sourceOf(join(root, 'odd', '*', 'deep', '1.txt'), '*/deep/1.txt')), [
      'a[1] 1',
      'empty{} 1',
      'set {a,b} 1',
      'star* 1',
      'what? 1',
      '{x 1',
    ]);
  });

  test('may be on a web server; parquet is read by range', async () => {
    const parquet = new Uint8Array(
      parquetWriteBuffer({
        columnData: [
          { name: 'text', data: ['a', 'b'] },
          { name: 'other', data: ['c', 'd'] },
        ],
      }),
    );
    const files = new Map<string | undefined, Uint8Array>([
      ['/x.txt.gz', gzipSync('one\ntwo\n')],
      ['/x.parquet?key=secret', parquet],
    ]);
    const server = await startFaultyServer((request, response) => serve(files.get(request.url)!)(request, response));
    try {
      assert.deepEqual(await textsOf(sourceOf(`${server.url}/x.txt.gz`, 'x.txt.gz')), ['one', 'two']);
      const table = sourceOf(`${server.url}/x.parquet?key=secret`, 'x.parquet', 'parquet');
      assert.equal((await resolveSource(table, access)).files[0]!.version, 'etag:"v1"');
      assert.deepEqual(await textsOf(table), ['a', 'b']);
    } finally {
      await server.close();
    }
  });

  test('may be a prefix or a glob in an S3 bucket', async () => {
    const server = await startS3Server({ folder: join(root, 's3'), buckets: ['bucket'] });
    try {
      const by = createSourceAccess({
        cacheFolder: join(root, 'cache'),
        environment: {},
        storage: { s3: server.options },
      });
      const storage = openStorage('s3://bucket/c4', by.storage);
      for (const name of ['en/1.txt', 'en/2.txt', 'fr/3.txt', 'en/_SUCCESS'])
        await storage.put(name, Buffer.from(`${name}\n`));
      assert.deepEqual(await textsOf(sourceOf('s3://bucket/c4/en/', 'c4'), by), ['en/1.txt', 'en/2.txt']);
      assert.deepEqual(await textsOf(sourceOf('s3://bucket/c4/*/{2,3}.txt', 'c4'), by), ['en/2.txt', 'fr/3.txt']);
      assert.deepEqual(await textsOf(sourceOf('s3://bucket/c4/en/1.txt', 'c4'), by), ['en/1.txt']);
    } finally {
      await server.close();
    }
  });
});
