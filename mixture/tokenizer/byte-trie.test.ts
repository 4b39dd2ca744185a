import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type ByteTrie, buildByteTrie, longestKey } from './byte-trie.ts';

function find(trie: ByteTrie, key: Uint8Array): number {
  let state = 0;
  for (const byte of key) {
    const next = trie.base[state]! + byte;
    if (trie.check[next] !== state) return -1;
    state = next;
  }
  return trie.value[state]!;
}

const keysArbitrary = fc.uniqueArray(fc.uint8Array({ minLength: 1, maxLength: 6, max: 255 }), {
  selector: (key) => key.join(),
  maxLength: 300,
});

test('a trie finds exactly its keys, for any bytes', () => {
  fc.assert(
    fc.property(keysArbitrary, fc.array(fc.uint8Array({ minLength: 1, maxLength: 6 })), (keys, others) => {
      const trie = buildByteTrie(keys);
      const indexOf = new Map(keys.map((key, index) => [key.join(), index]));
      for (const key of [...keys, ...others]) assert.equal(find(trie, key), indexOf.get(key.join()) ?? -1);
    }),
    { numRuns: 200 },
  );
});

test('finds the longest key that begins at a position', () => {
  const trie = buildByteTrie(['a', 'abc', 'b'].map((key) => Buffer.from(key)));
  const lengthAt = (text: string, at: number): number => longestKey(trie, Buffer.from(text), at, text.length);
  assert.deepEqual(
    [lengthAt('abc', 0), lengthAt('abx', 0), lengthAt('xabc', 1), lengthAt('xb', 0), lengthAt('ab', 2)],
    [3, 1, 3, 0, 0],
  );
});

test('each step from any state stays inside the arrays', () => {
  const trie = buildByteTrie([Uint8Array.of(255, 255), Uint8Array.of(0)]);
  for (const base of trie.base) assert.ok(base + 255 < trie.check.length);
});
