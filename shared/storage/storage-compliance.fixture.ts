/** The contract of every writable storage, as tests that each of them runs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Storage } from './storage.ts';

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

export async function readAll(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk);
  return Buffer.concat(parts);
}

/** @param open an empty storage each time it is called */
export function describeStorage(open: () => Promise<Storage>): void {
  void test('reads what was put, whole, as a stream and by ranges, with size and version', async () => {
    const storage = await open();
    const body = bytesOf('0123456789');
    await storage.put('folder/a b+ü(1).bin', body);
    const { bytes, version } = await storage.head('folder/a b+ü(1).bin');
    assert.equal(bytes, 10);
    const key = 'folder/a b+ü(1).bin';
    assert.deepEqual(await readAll(storage.stream(key)), Buffer.from(body));
    assert.equal(String(await readAll(storage.stream(key, { from: 2, to: 5, version }))), '234');
    assert.equal(String(await readAll(storage.stream(key, { from: 7, version }))), '789');
    assert.equal(String(await readAll(storage.stream(key, { from: 4, to: 4 }))), '');
    assert.equal(String(Buffer.from(await storage.readRange(key, 3, 4, undefined, version))), '3456');
    assert.equal((await storage.readRange(key, 0, 0)).length, 0);
    await storage.put(key, bytesOf('other'));
    assert.notEqual((await storage.head(key)).version, version);
    assert.equal(String(await readAll(storage.stream(key))), 'other');
  });

  void test('stores an empty object', async () => {
    const storage = await open();
    await storage.put('empty', new Uint8Array(0));
    assert.equal((await storage.head('empty')).bytes, 0);
    assert.equal((await readAll(storage.stream('empty'))).length, 0);
  });

  void test('a missing, a truncated and a changed object are errors with their codes', async () => {
    const storage = await open();
    await assert.rejects(storage.head('none'), { code: 'STORAGE_NOT_FOUND', message: /none/ });
    await assert.rejects(storage.readRange('none', 0, 1), { code: 'STORAGE_NOT_FOUND', message: /none/ });
    await assert.rejects(readAll(storage.stream('none')), { code: 'STORAGE_NOT_FOUND' });
    await storage.put('a', bytesOf('0123'));
    const { version } = await storage.head('a');
    await assert.rejects(storage.readRange('a', 2, 3), { code: 'STORAGE_TRUNCATED', message: /expected at least 5 B/ });
    await assert.rejects(storage.readRange('a', 9, 3), { code: 'STORAGE_TRUNCATED' });
    await assert.rejects(readAll(storage.stream('a', { to: 5 })), { code: 'STORAGE_TRUNCATED' });
    await storage.put('a', bytesOf('45678'));
    await assert.rejects(storage.readRange('a', 0, 1, undefined, version), { code: 'STORAGE_CHANGED', message: /a/ });
    await assert.rejects(readAll(storage.stream('a', { version })), { code: 'STORAGE_CHANGED' });
  });

  void test('lists the keys with a prefix, in order, without deleted ones', async () => {
    const storage = await open();
    const keys = ['a/1', 'a/2', 'a/b/3', 'ab', 'b', 'ö & <x>', 'a0'];
    for (const key of keys) await storage.put(key, bytesOf(key));
    const list = async (prefix: string) => {
      const found: string[] = [];
      for await (const { key, bytes, version } of storage.list(prefix)) {
        assert.deepEqual({ bytes, version }, await storage.head(key));
        found.push(key);
      }
      return found;
    };
    assert.deepEqual(await list(''), ['a/1', 'a/2', 'a/b/3', 'a0', 'ab', 'b', 'ö & <x>']);
    assert.deepEqual(await list('a/'), ['a/1', 'a/2', 'a/b/3']);
    assert.deepEqual(await list('a/b/'), ['a/b/3']);
    assert.deepEqual(await list('c'), []);
    await storage.delete('a/1');
    await storage.delete('a/1');
    assert.deepEqual(await list('a/'), ['a/2', 'a/b/3']);
  });

  void test('an aborted signal ends every method with ABORTED', async () => {
    const storage = await open();
    await storage.put('a', bytesOf('0123'));
    const signal = AbortSignal.abort();
    await assert.rejects(storage.head('a', signal), { code: 'ABORTED' });
    await assert.rejects(storage.readRange('a', 0, 1, signal), { code: 'ABORTED' });
    await assert.rejects(readAll(storage.stream('a', { signal })), { code: 'ABORTED' });
    await assert.rejects(storage.put('b', bytesOf('x'), signal), { code: 'ABORTED' });
    await assert.rejects(readAll(storage.list('', signal) as unknown as AsyncIterable<Uint8Array>), {
      code: 'ABORTED',
    });
  });
}
