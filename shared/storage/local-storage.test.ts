import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { isLocalLocation, localPathOf } from './location.ts';
import { openStorage } from './open-storage.ts';
import { compareKeys } from './storage.ts';
import { describeStorage, readAll } from './storage-compliance.fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-storage-'));
after(() => rmSync(root, { recursive: true }));
let numFolders = 0;
const newFolder = () => join(root, String(numFolders++));

describe('local storage', () => {
  describeStorage(() => Promise.resolve(openStorage(newFolder())));

  test('may be opened at a file, by path or file: URL; the empty key is that file', async () => {
    const path = join(root, 'one file.txt');
    writeFileSync(path, 'text');
    for (const location of [path, pathToFileURL(path).href]) {
      assert.ok(isLocalLocation(location));
      assert.equal(localPathOf(location), path);
      assert.equal(String(await readAll(openStorage(location).stream(''))), 'text');
    }
    await assert.rejects(openStorage(root).head(''), { code: 'STORAGE_NOT_FOUND', message: /is not a file/ });
  });

  test('a file that grows while it is streamed is STORAGE_CHANGED', async () => {
    const path = join(root, 'growing');
    writeFileSync(path, 'x'.repeat(600_000));
    const storage = openStorage(path);
    const reading = async () => {
      for await (const chunk of storage.stream('', { version: (await storage.head('')).version }))
        if (chunk.length > 0) appendFileSync(path, 'y');
    };
    await assert.rejects(reading, { code: 'STORAGE_CHANGED', message: /growing changed/ });
  });

  test('lists through a link to a folder once, and follows no cycle of links', async () => {
    const folder = newFolder();
    mkdirSync(join(folder, 'data'), { recursive: true });
    writeFileSync(join(folder, 'data', 'a'), '');
    symlinkSync(join(folder, 'data'), join(folder, 'link'));
    symlinkSync(folder, join(folder, 'data', 'up'));
    symlinkSync(join(folder, 'none'), join(folder, 'dangling'));
    const keys: string[] = [];
    for await (const { key } of openStorage(folder).list('')) keys.push(key);
    assert.deepEqual(keys, ['data/a', 'link/a']);
  });

  test('reads only folders that may contain a key with the prefix', async (t) => {
    const folder = newFolder();
    mkdirSync(join(folder, 'other'), { recursive: true });
    mkdirSync(join(folder, 'run-1', 'x'), { recursive: true });
    for (const name of ['run-2.jsonl', 'run-1/x/a', 'run-1/b', 'other/run-3'])
      writeFileSync(join(folder, ...name.split('/')), '');
    symlinkSync('a'.repeat(300), join(folder, 'too-long')); // following it fails: ENAMETOOLONG
    const list = async (prefix: string) => {
      const keys: string[] = [];
      for await (const { key } of openStorage(folder).list(prefix)) keys.push(key);
      return keys;
    };
    await assert.rejects(list(''), { code: 'PATH_UNUSABLE', message: /ENAMETOOLONG/ });
    assert.deepEqual(await list('run-'), ['run-1/b', 'run-1/x/a', 'run-2.jsonl']);
    assert.deepEqual(await list('run-1/x'), ['run-1/x/a']);
    assert.deepEqual(await list('run-1/x/'), ['run-1/x/a']);
    chmodSync(join(folder, 'other'), 0);
    t.after(() => chmodSync(join(folder, 'other'), 0o700));
    assert.deepEqual(await list('run-2'), ['run-2.jsonl']);
  });

  test('keys are in the order of their UTF-8 bytes', () => {
    const keys = [
      '',
      'a',
      'aa',
      'a/b',
      'b',
      'é',
      '\ud7ff',
      '\ue000',
      '\uffff',
      '𐀀',
      '😀',
      '😀a',
      '😁',
      'a\ue000',
      'a😀',
    ];
    for (const a of keys)
      for (const b of keys)
        assert.equal(Math.sign(compareKeys(a, b)), Buffer.compare(Buffer.from(a), Buffer.from(b)), `${a} ${b}`);
  });

  test('a range of an empty file is STORAGE_TRUNCATED', async () => {
    const path = join(root, 'empty');
    writeFileSync(path, '');
    await assert.rejects(openStorage(path).readRange('', 0, 1), { code: 'STORAGE_TRUNCATED' });
  });

  test('another scheme is CONFIG_INVALID, and so is a file: URL of another host', () => {
    assert.throws(() => openStorage('ftp://host/a'), { code: 'CONFIG_INVALID', message: /s3:/ });
    assert.throws(() => openStorage('file://host/a'), { code: 'CONFIG_INVALID', message: /file:\/\/\/path/ });
  });
});
