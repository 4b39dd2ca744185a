import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { removeAbandoned } from '../partial-folders.ts';
import { PARAMETERS, writeFixtureCheckpoint } from './checkpoint.fixture.ts';
import { pinCheckpoint } from './pin.ts';
import { findLatestCheckpoint, readCheckpoint } from './read.ts';

let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-pin-'));
});
after(() => rm(root, { recursive: true, force: true }));

describe('a pinned checkpoint', () => {
  test('stays whole when the checkpoint is removed, and goes with its release', async () => {
    const folder = await mkdtemp(join(root, 'run-'));
    const path = await writeFixtureCheckpoint(folder, 8);
    const expected = await (await readCheckpoint(path)).loadParameters(PARAMETERS);
    const pin = await pinCheckpoint(path);
    assert.ok(pin);
    assert.equal(basename(pin.folder), 'step-8');
    assert.equal((await findLatestCheckpoint(folder)).latest?.path, path, 'a pin is no second checkpoint');
    await rm(path, { recursive: true });
    const pinned = await readCheckpoint(pin.folder);
    assert.equal(pinned.run.step, 8);
    assert.deepEqual(await pinned.loadParameters(PARAMETERS), expected);
    await removeAbandoned(folder);
    await readCheckpoint(pin.folder);
    await pin.release();
    assert.deepEqual(await readdir(folder), []);
  });

  test('cannot be made of one that is gone, and leaves nothing', async () => {
    const folder = await mkdtemp(join(root, 'run-'));
    assert.equal(await pinCheckpoint(join(folder, 'step-8')), undefined);
    assert.deepEqual(await readdir(folder), []);
  });

  test('of a process that ended is removed as abandoned', async () => {
    const folder = await mkdtemp(join(root, 'run-'));
    const path = await writeFixtureCheckpoint(folder, 8);
    const module = JSON.stringify(new URL('./pin.ts', import.meta.url).href);
    const script = `const { pinCheckpoint } = await import(${module}); await pinCheckpoint(${JSON.stringify(path)}); process.kill(process.pid, 'SIGKILL')`;
    const child = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script], { encoding: 'utf8' }); // prettier-ignore
    assert.equal(child.signal, 'SIGKILL', child.stderr);
    assert.equal((await readdir(folder)).length, 2);
    await removeAbandoned(folder);
    assert.deepEqual(await readdir(folder), ['step-8']);
  });
});
