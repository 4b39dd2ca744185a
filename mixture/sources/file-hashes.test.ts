import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { LocalStorage } from '../../shared/storage/local-storage.ts';
import { hashLocalFile } from './file-hashes.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-hashes-'));
after(() => rmSync(root, { recursive: true }));

test('stores the hash of a large file; if the folder for it cannot be created, the error is PATH_UNUSABLE', async () => {
  const large = process.execPath; // large, and not changed recently
  const { version } = await new LocalStorage(large).head('');
  const cache = join(root, 'cache');
  const hash = await hashLocalFile(large, version, cache);
  assert.equal(readdirSync(join(cache, 'hashes')).length, 1);
  assert.equal(await hashLocalFile(large, version, cache), hash);
  writeFileSync(join(root, 'file'), '');
  await assert.rejects(hashLocalFile(large, version, join(root, 'file')), {
    code: 'PATH_UNUSABLE',
    message: /cannot create .*hashes \(ENOTDIR\)/u,
  });
});
