import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import fc from 'fast-check';
import { sha256Of } from './prepared-format.ts';
import { ShardWriter, type ShardWriterInit } from './shard-writer.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-shards-'));
after(() => rmSync(root, { recursive: true }));
const newWriter = (init: Partial<ShardWriterInit> = {}) => {
  const folder = mkdtempSync(join(root, 'w'));
  return { folder, writer: new ShardWriter({ folder, tokenBytes: 2, shardBytes: 1 << 20, hasIndex: true, ...init }) };
};

describe('token shards', () => {
  test('have the bytes that their table defines', async () => {
    const { folder, writer } = newWriter({ shardBytes: 10 });
    await writer.add(Int32Array.of(258, 1, 65_535, 1), 2);
    await writer.add(Int32Array.of(5, 1), 1);
    const shards = await writer.finish();
    const hex = (name: string) => readFileSync(join(folder, name)).toString('hex');
    assert.equal(hex('shard-00000.tokens'), '02010100ffff0100');
    assert.equal(hex('shard-00000.index'), '02000200');
    assert.equal(hex('shard-00001.tokens'), '05000100');
    assert.equal(hex('shard-00001.index'), '01000100');
    assert.deepEqual(
      shards.map(({ numExamples, tokens }) => [numExamples, tokens.bytes, tokens.sha256]),
      [
        [1, 8, sha256Of(Buffer.from('02010100ffff0100', 'hex'))],
        [1, 4, sha256Of(Buffer.from('05000100', 'hex'))],
      ],
    );
  });

  test('hold int32 for a vocabulary above 65,536', async () => {
    const { folder, writer } = newWriter({ tokenBytes: 4, hasIndex: false });
    await writer.add(Int32Array.of(250_111, 1), 2);
    const [shard] = await writer.finish();
    assert.equal(readFileSync(join(folder, 'shard-00000.tokens')).toString('hex'), 'ffd0030001000000');
    assert.equal(shard!.index, undefined);
  });

  test('keep the order and their bound, for any lengths', async () => {
    const example = fc.array(fc.nat(65_535), { minLength: 1, maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(fc.array(example, { minLength: 1, maxLength: 30 }), async (examples) => {
        const { folder, writer } = newWriter({ shardBytes: 40 });
        for (const ids of examples) await writer.add(Int32Array.from(ids), 1);
        const shards = await writer.finish();
        const bytes = Buffer.concat(shards.map(({ tokens }) => readFileSync(join(folder, tokens.file))));
        assert.deepEqual([...new Uint16Array(new Uint8Array(bytes).buffer)], examples.flat());
        for (const { tokens } of shards) assert.ok(tokens.bytes <= 40);
        assert.equal(
          shards.reduce((sum, { numExamples }) => sum + numExamples, 0),
          examples.length,
        );
      }),
      { numRuns: 40 },
    );
  });

  for (const [system, code] of [
    ['ENOSPC', 'DISK_FULL'],
    ['EDQUOT', 'DISK_FULL'],
    ['EIO', 'PATH_UNUSABLE'],
  ] as const)
    test(`a write that fails with ${system} is ${code} and names the file`, async () => {
      const { writer } = newWriter({
        openFile: async (path) => {
          const file = await open(path, 'wx');
          return {
            sync: () => file.sync(),
            close: () => file.close(),
            write: () => Promise.reject(Object.assign(new Error('fake'), { code: system })),
          };
        },
      });
      await writer.add(Int32Array.of(1, 1), 1);
      await assert.rejects(writer.finish(), { code, message: /shard-00000\.tokens/ });
      await writer.abandon();
    });
});
