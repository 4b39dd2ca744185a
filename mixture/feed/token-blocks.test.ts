import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { BLOCK_BYTES, BlockChecksums } from '../prepare/block-checksums.ts';
import { ReadSlots, type KnownFile, type PreparedFiles } from './prepared-files.ts';
import { BoundedCache, TokenBlocks, type TokenFile } from './token-blocks.ts';

/** Files in memory that record their reads. Each read waits for `gate`. */
class MemoryFiles implements PreparedFiles {
  readonly location = 'memory';
  readonly contents = new Map<string, Uint8Array>();
  readonly reads: string[] = [];
  gate: Promise<void> = Promise.resolve();

  placeOf = (key: string) => `memory/${key}`;
  readUnknown = (key: string) => this.#read(key, 0, this.contents.get(key)!.length);
  readKnown = ({ key }: KnownFile) => this.readUnknown(key);
  checkSize = () => Promise.resolve();
  readRange = (key: string, from: number, length: number) => this.#read(key, from, length);
  close = () => undefined;

  async #read(key: string, from: number, length: number): Promise<Uint8Array> {
    this.reads.push(`${key} ${from} ${length}`);
    await this.gate;
    return this.contents.get(key)!.slice(from, from + length);
  }
}

const SIZE = 3 * BLOCK_BYTES + 100;
const content = Uint8Array.from({ length: SIZE }, (_, i) => (i * 7 + (i >> 9)) & 255);

function memoryFile(files: MemoryFiles, key: string, bytes = content): TokenFile {
  const checksums = new BlockChecksums();
  checksums.add(bytes);
  files.contents.set(key, bytes.slice());
  files.contents.set(`${key}.crc`, checksums.finish());
  const crcBytes = files.contents.get(`${key}.crc`)!.length;
  return { key, bytes: bytes.length, checksums: { key: `${key}.crc`, bytes: crcBytes, sha256: '' } };
}

describe('token blocks', () => {
  test('return any range of a file, across any number of blocks', async () => {
    const files = new MemoryFiles();
    const file = memoryFile(files, 'a');
    const blocks = new TokenBlocks(files);
    await fc.assert(
      fc.asyncProperty(fc.nat(SIZE - 1), fc.nat(SIZE), async (from, most) => {
        const length = Math.max(1, Math.min(most, SIZE - from));
        assert.deepEqual([...(await blocks.read(file, from, length))], [...content.subarray(from, from + length)]);
      }),
      { numRuns: 60 },
    );
    assert.equal(files.reads.length, 5, 'the checksums and four blocks, each once');
  });

  test('are read once for all concurrent readers', async () => {
    const files = new MemoryFiles();
    const file = memoryFile(files, 'a');
    const blocks = new TokenBlocks(files);
    let open = (): void => undefined;
    files.gate = new Promise((resolve) => (open = resolve));
    const reading = [10, 20, 30].map((from) => blocks.read(file, from, 10));
    open();
    assert.deepEqual(
      (await Promise.all(reading)).map(([first]) => first),
      [10, 20, 30].map((at) => content[at]),
    );
    assert.deepEqual(files.reads, ['a.crc 0 16', 'a 0 16384']);
  });

  test('a flipped bit is SHARD_CORRUPT and names the bytes; other blocks are returned; a repaired file is read again', async () => {
    const files = new MemoryFiles();
    const file = memoryFile(files, 'a');
    const blocks = new TokenBlocks(files);
    files.contents.get('a')![BLOCK_BYTES + 3]! ^= 4;
    for (const from of [BLOCK_BYTES + 3, BLOCK_BYTES - 1, 2 * BLOCK_BYTES - 1])
      await assert.rejects(blocks.read(file, from, 2), {
        code: 'SHARD_CORRUPT',
        message: /^memory\/a: expected bytes 16384 to 32768 with the checksum/u,
      });
    assert.equal((await blocks.read(file, 0, 10)).length, 10);
    files.contents.get('a')![BLOCK_BYTES + 3]! ^= 4;
    assert.equal((await blocks.read(file, BLOCK_BYTES + 3, 2))[0], content[BLOCK_BYTES + 3]);
  });

  test('a wrong number of checksums is SHARD_CORRUPT', async () => {
    const files = new MemoryFiles();
    const file = memoryFile(files, 'a');
    const blocks = new TokenBlocks(files);
    const wrong = { ...file, checksums: { ...file.checksums, bytes: 12 } };
    await assert.rejects(blocks.read(wrong, 0, 1), { code: 'SHARD_CORRUPT', message: /4 checksums of a, found 12 B/u });
  });
});

describe('a bounded cache', () => {
  test('never exceeds its bound, and drops the least recently used entries', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(9), fc.nat(40)), { maxLength: 60 }), (sets) => {
        const cache = new BoundedCache(100);
        let recent: string[] = [];
        for (const [name, length] of sets) {
          cache.set(String(name), new Uint8Array(length));
          recent = [String(name), ...recent.filter((other) => other !== String(name))];
          assert.ok(cache.bytes <= 100);
        }
        const kept = recent.filter((name) => cache.get(name) !== undefined);
        assert.deepEqual(kept, recent.slice(0, kept.length), 'the most recent ones, without a gap');
      }),
      { numRuns: 100 },
    );
    const cache = new BoundedCache(10);
    cache.set('large', new Uint8Array(11));
    assert.equal(cache.get('large'), undefined);
  });
});

describe('read slots', () => {
  test('run a bounded number of reads at a time, and the others in order', async () => {
    const slots = new ReadSlots(2);
    const begun: number[] = [];
    const ends: (() => void)[] = [];
    const all = [0, 1, 2, 3].map((number) =>
      slots.run(() => {
        begun.push(number);
        return new Promise<void>((resolve) => ends.push(resolve));
      }),
    );
    for (const expected of [
      [0, 1],
      [0, 1, 2],
      [0, 1, 2, 3],
    ]) {
      await new Promise(setImmediate);
      assert.deepEqual(begun, expected);
      ends.shift()!();
    }
    ends.forEach((end) => end());
    await Promise.all(all);
  });

  test('a failed read frees its slot, and a read that is aborted before its turn does not run', async () => {
    const slots = new ReadSlots(1);
    const stop = new AbortController();
    const failing = slots.run(() => Promise.reject(new RangeError('fake')));
    const aborted = slots.run(() => assert.fail('it runs'), stop.signal);
    stop.abort();
    await assert.rejects(failing, RangeError);
    await assert.rejects(aborted, { code: 'ABORTED' });
    assert.equal(await slots.run(() => Promise.resolve(7)), 7);
  });
});
