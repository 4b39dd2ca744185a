import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { readSource } from '../sources/read-unit.ts';
import { resolveSource } from '../sources/resolve-source.ts';
import { createSourceAccess } from '../sources/source-access.ts';
import { buildSource } from './source-entry.ts';

function fileOf(path: string): unknown {
  const source = buildSource({ path, format: 'text' }, '/m');
  return source.kind === 'files' ? source.files[0] : undefined;
}

test('a file: URL becomes the path that it names, and is read as a path', async () => {
  assert.deepEqual(fileOf('file:///data/a%20b.txt'), { location: '/data/a b.txt', name: 'a b.txt' });
  assert.deepEqual(fileOf('FILE:///data/a.txt'), { location: '/data/a.txt', name: 'a.txt' });
  assert.throws(() => fileOf('file://host/a.txt'), { code: 'CONFIG_INVALID', message: /file:\/\/host\/a\.txt/ });
  const folder = mkdtempSync(join(tmpdir(), 'exmix-source-'));
  try {
    writeFileSync(join(folder, 'a b.txt'), 'one\ntwo\n');
    const access = createSourceAccess({ cacheFolder: join(folder, 'cache'), environment: {} });
    for (const path of ['a b.txt', '*.txt']) {
      const url = `${pathToFileURL(folder).href}/${path.replace(' ', '%20')}`;
      const source = await resolveSource(buildSource({ path: url, format: 'text' }, '/m'), access);
      assert.match(source.files[0]!.version, /^sha256:/u);
      const texts: unknown[] = [];
      for await (const batch of readSource(source, { access }))
        for (const record of batch) texts.push(record.ok ? record.fields['text'] : record.reason);
      assert.deepEqual(texts, ['one', 'two']);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('the name of a URL has neither login nor query; its location has both', () => {
  for (const [path, name] of [
    ['https://user:pass@host/a.txt?key=secret', 'https://host/a.txt'],
    ['HTTP://token@host:8080/a.txt#top', 'HTTP://host:8080/a.txt'],
    ['https://host/a@b.txt', 'https://host/a@b.txt'],
    ['https://host?to=a@b', 'https://host'],
    ['s3://bucket/a@b.txt', 's3://bucket/a@b.txt'],
  ])
    assert.deepEqual(fileOf(path!), { location: path, name });
});
