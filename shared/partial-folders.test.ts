import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { makePartialFolder, removeAbandoned } from './partial-folders.ts';
import { ownFileTag } from './process-place.ts';

const root = mkdtempSync(join(tmpdir(), 'exmix-partial-'));
after(() => rmSync(root, { recursive: true }));
const newParent = (): string => mkdtempSync(join(root, 'parent-'));
const DAY_MS = 24 * 3_600_000;

describe('partial folders', () => {
  test('those of killed processes of this place are removed, those of live ones stay', async () => {
    const parent = newParent();
    const own = await makePartialFolder(parent, 'unit');
    const child = spawn('sleep', ['600']);
    const other = join(parent, `.partial-${ownFileTag(child.pid)}-0-unit`);
    mkdirSync(other);
    await removeAbandoned(parent);
    assert.deepEqual((await readdir(parent)).sort(), [basename(own), basename(other)].sort());
    child.kill('SIGKILL');
    await once(child, 'exit');
    await removeAbandoned(parent);
    assert.deepEqual(await readdir(parent), [basename(own)]);
  });

  test('those of another host or container stay, even with this host name and a pid that is free here, until nothing changed for a day', async () => {
    const parent = newParent();
    const names = ['elsewhere-0123456789ab-4000000-0-unit', `${hostname()}-0123456789ab-4000000-0-unit`];
    for (const name of names) {
      mkdirSync(join(parent, `.partial-${name}`, 'inner'), { recursive: true });
      writeFileSync(join(parent, `.partial-${name}`, 'inner', 'shard'), 'x');
    }
    await removeAbandoned(parent);
    await removeAbandoned(parent, Date.now() + DAY_MS - 60_000);
    assert.equal((await readdir(parent)).length, 2);
    await removeAbandoned(parent, Date.now() + DAY_MS + 60_000);
    assert.deepEqual(await readdir(parent), []);
  });
});
