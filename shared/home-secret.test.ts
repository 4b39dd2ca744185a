import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { isSealOf, sealOf } from './home-secret.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-home-secret-'));
after(() => rmSync(root, { recursive: true }));

describe('a seal', () => {
  test('is that of its parts, in its home only', async () => {
    const home = join(root, 'a');
    const seal = await sealOf(['x', 'y'], home);
    assert.equal(await isSealOf(seal, ['x', 'y'], home), true);
    for (const parts of [['x', 'z'], ['y', 'x'], ['x,y'], ['x'], []])
      assert.equal(await isSealOf(seal, parts, home), false);
    for (const other of ['', seal.slice(1), `${seal}0`, seal.toUpperCase(), 'ü'.repeat(64)])
      assert.equal(await isSealOf(other, ['x', 'y'], home), false);
    const elsewhere = join(root, 'b');
    assert.equal(await isSealOf(seal, ['x', 'y'], elsewhere), false, 'a home without a secret');
    await sealOf(['x', 'y'], elsewhere);
    assert.equal(await isSealOf(seal, ['x', 'y'], elsewhere), false);
  });

  test('the secret is made once, also by many at the same time, and only its user may read it', async () => {
    const home = join(root, 'many');
    const seals = await Promise.all(Array.from({ length: 20 }, () => sealOf(['x'], home)));
    assert.equal(new Set(seals).size, 1);
    assert.deepEqual(readdirSync(home), ['secret']);
    assert.equal(statSync(join(home, 'secret')).mode & 0o777, 0o600);
  });

  test('a home that cannot hold it is PATH_UNUSABLE', async () => {
    writeFileSync(join(root, 'file'), '');
    await assert.rejects(sealOf(['x'], join(root, 'file')), { code: 'PATH_UNUSABLE' });
    mkdirSync(join(root, 'folder', 'secret'), { recursive: true });
    await assert.rejects(sealOf(['x'], join(root, 'folder')), { code: 'PATH_UNUSABLE' });
  });
});
