import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { createRunFolder, openRunFolder, readRunConfig, resolveResume, checkFreeSpace } from './run-folder.ts';
import { acquireRunLock, LEASE_MS } from './run-lock.ts';

const NOW_MS = Date.UTC(2026, 10, 23, 5, 5, 48);
let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-run-'));
});
after(() => rm(root, { recursive: true, force: true }));
const newRoot = () => mkdtemp(join(root, 'case-'));

const create = (runsFolder: string) =>
  createRunFolder({ runsFolder, name: 'tiny', wallMs: NOW_MS, configText: 'seed: 7\n', requiredBytes: 1 });

describe('run folder', () => {
  test('is made with its configuration, named after the run and the time', async () => {
    const runsFolder = join(await newRoot(), 'runs');
    const run = await create(runsFolder);
    assert.equal(run.folder, join(runsFolder, 'tiny-20261123-050548'));
    assert.equal(await readRunConfig(run), 'seed: 7\n');
    assert.deepEqual((await readdir(run.folder)).sort(), ['checkpoints', 'config.yaml', 'lock']);
    assert.deepEqual(run.notes, []);
    await run.lock.release();
    assert.deepEqual((await readdir(run.folder)).sort(), ['checkpoints', 'config.yaml']);
  });

  test('two runs of one name in one second get two folders', async () => {
    const runsFolder = await newRoot();
    const runs = await Promise.all([create(runsFolder), create(runsFolder)]);
    assert.equal(new Set(runs.map(({ folder }) => folder)).size, 2);
    assert.deepEqual((await readdir(runsFolder)).sort(), ['tiny-20261123-050548', 'tiny-20261123-050548-2']);
    for (const { lock } of runs) await lock.release();
  });

  test('opening it again removes unfinished and half-deleted checkpoints, and a note says so', async () => {
    const run = await create(await newRoot());
    await run.lock.release();
    for (const name of ['.writing-step-000012-e1-g2', '.removing-step-4', 'step-8'])
      await mkdir(join(run.checkpoints, name, 'inner'), { recursive: true });
    const again = await openRunFolder(run.folder, NOW_MS, 1);
    assert.deepEqual(await readdir(run.checkpoints), ['step-8']);
    assert.equal(again.notes.length, 2);
    assert.match(again.notes[1] ?? '', /removed .*\.writing-step-000012-e1-g2, which a killed run left unfinished/);
    await again.lock.release();
  });

  test('a name that is no folder name, a file in place of the folder and a folder that is no run are PATH_UNUSABLE', async () => {
    const parent = await newRoot();
    const init = { runsFolder: parent, wallMs: NOW_MS, configText: '', requiredBytes: 1 };
    await assert.rejects(createRunFolder({ ...init, name: '../elsewhere' }), {
      code: 'PATH_UNUSABLE',
      message: /run name/,
    });
    await writeFile(join(parent, 'file'), '');
    await assert.rejects(create(join(parent, 'file', 'runs')), { code: 'PATH_UNUSABLE', message: /ENOTDIR/ });
    await assert.rejects(openRunFolder(parent, NOW_MS, 1), { code: 'PATH_UNUSABLE', message: /no config\.yaml/ });
  });

  test('a folder that cannot be written is PATH_UNUSABLE before training', async () => {
    await assert.rejects(checkFreeSpace('/proc/self', 1), { code: 'PATH_UNUSABLE' });
  });

  test('a disk without space for the checkpoints is DISK_FULL with the numbers, and no folder is left', async () => {
    const parent = await newRoot();
    const init = { runsFolder: parent, name: 'big', wallMs: NOW_MS, configText: '', requiredBytes: 2 ** 60 };
    await assert.rejects(createRunFolder(init), {
      code: 'DISK_FULL',
      message: /needs 1152921504606847000 B for its checkpoints, \d+ B are free/,
    });
    assert.deepEqual(await readdir(parent), []);
    const given = join(parent, 'given');
    await mkdir(given);
    await assert.rejects(createRunFolder({ ...init, folder: given }), { code: 'DISK_FULL' });
    assert.deepEqual(await readdir(given), [], 'a folder that was there stays, empty as it was');
  });
});

describe('resume target', () => {
  test('a run folder continues in that folder; a checkpoint folder starts a new one', async () => {
    const run = await create(await newRoot());
    await run.lock.release();
    assert.deepEqual(await resolveResume(run.folder), { kind: 'run', runFolder: run.folder });
    const checkpointFolder = join(run.checkpoints, 'step-12');
    await mkdir(checkpointFolder);
    await writeFile(join(checkpointFolder, 'manifest.json'), '{}');
    assert.deepEqual(await resolveResume(checkpointFolder), { kind: 'checkpoint', checkpointFolder, step: 12 });
  });

  test('any other path is PATH_UNUSABLE, and the message says what was found', async () => {
    const parent = await newRoot();
    await assert.rejects(resolveResume(parent), { code: 'PATH_UNUSABLE', message: /found a folder with neither/ });
    await assert.rejects(resolveResume(join(parent, 'nowhere')), { message: /found nothing there/ });
    await writeFile(join(parent, 'manifest.json'), '{}');
    await assert.rejects(resolveResume(parent), { message: /must keep its name step-<n>/ });
  });
});

/** A real process that acquires the lock of a folder and keeps it until it is killed. */
async function lockInChild(folder: string) {
  const script = `
    import { acquireRunLock } from '${new URL('run-lock.ts', import.meta.url).href}';
    await acquireRunLock(process.argv[1], ${NOW_MS});
    process.stdout.write('locked');
    process.stdin.resume();`;
  const args = ['--import', 'tsx', '--input-type=module', '-e', script, folder];
  const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'], cwd: import.meta.dirname });
  const [said] = (await once(child.stdout, 'data')) as [Buffer];
  assert.equal(said.toString(), 'locked');
  return child;
}

describe('run lock', () => {
  test('a second coordinator is refused with the owner named; when the owner is killed, the next one takes over, and a note says so', async () => {
    const folder = await newRoot();
    const child = await lockInChild(folder);
    const owner = `process ${child.pid ?? 0} on ${hostname()}, started 2026-11-23T05:05:48.000Z`;
    await assert.rejects(acquireRunLock(folder, NOW_MS), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'RUN_LOCKED');
      assert.ok(error.message.includes(`held by ${owner}`), error.message);
      return true;
    });
    child.kill('SIGKILL');
    await once(child, 'exit');
    const lock = await acquireRunLock(folder, NOW_MS);
    assert.equal(lock.takenOver, `took over the lock of ${owner}: that process is gone`);
    await lock.release();
    assert.deepEqual(await readdir(folder), []);
  });

  test('of many that lock at once exactly one succeeds', async () => {
    const folder = await newRoot();
    const results = await Promise.allSettled(Array.from({ length: 12 }, () => acquireRunLock(folder, NOW_MS)));
    const locks = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    assert.equal(locks.length, 1);
    for (const result of results)
      if (result.status === 'rejected') assert.equal((result.reason as { code: string }).code, 'RUN_LOCKED');
    await locks[0]!.release();
    assert.deepEqual(await readdir(folder), []);
  });

  /** Writes the lock that an owner like us, changed by `change`, would have. */
  async function forgeLock(folder: string, change: Record<string, unknown>, ageMs = 0) {
    const path = join(folder, 'lock');
    const own = await acquireRunLock(folder, NOW_MS);
    await own.release();
    await writeFile(path, JSON.stringify({ ...own.owner, ...change }));
    const then = new Date(Date.now() - ageMs);
    await utimes(path, then, then);
  }

  const stale: readonly (readonly [string, Record<string, unknown>, number, RegExp])[] = [
    ['of another boot of this machine', { bootId: 'earlier' }, 0, /the machine was started anew since$/],
    ['of a process whose number was given to another', { processStart: '1' }, 0, /its number is used by another$/],
    ['of another host that stopped renewing it', { host: 'elsewhere' }, 2 * LEASE_MS, /not renewed for 1[12]\d s/],
  ];
  for (const [name, change, ageMs, reason] of stale)
    test(`a lock ${name} is taken over`, async () => {
      const folder = await newRoot();
      await forgeLock(folder, { id: 'other', ...change }, ageMs);
      const lock = await acquireRunLock(folder, NOW_MS);
      assert.match(lock.takenOver ?? '', reason);
      await lock.release();
    });

  test('a lock of another host that was renewed within the lease is respected', async () => {
    const folder = await newRoot();
    await forgeLock(folder, { id: 'other', host: 'elsewhere' }, LEASE_MS / 2);
    await assert.rejects(acquireRunLock(folder, NOW_MS), { code: 'RUN_LOCKED', message: /on elsewhere/ });
  });

  test('a lock file that exmix did not write is left alone', async () => {
    const folder = await newRoot();
    await writeFile(join(folder, 'lock'), 'precious');
    await assert.rejects(acquireRunLock(folder, NOW_MS), { code: 'PATH_UNUSABLE', message: /not a lock of exmix/ });
    assert.equal(await readFile(join(folder, 'lock'), 'utf8'), 'precious');
  });

  test('the owner renews its lock without changing it', async (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] });
    const folder = await newRoot();
    const path = join(folder, 'lock');
    const lock = await acquireRunLock(folder, NOW_MS);
    const content = await readFile(path, 'utf8');
    await utimes(path, 0, 0);
    const watcher = watch(path);
    const changed = once(watcher, 'change');
    context.mock.timers.tick(10_000);
    await changed;
    watcher.close();
    assert.ok((await stat(path)).mtimeMs > 0);
    assert.equal(await readFile(path, 'utf8'), content);
    await lock.release();
  });

  test('an owner whose lock was taken over gets the signal, and does not remove the new lock', async (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] });
    const folder = await newRoot();
    const lock = await acquireRunLock(folder, NOW_MS);
    await writeFile(join(folder, 'lock'), JSON.stringify({ ...lock.owner, id: 'other' }));
    context.mock.timers.tick(10_000);
    if (!lock.lost.aborted) await once(lock.lost, 'abort');
    assert.equal((lock.lost.reason as { code: string }).code, 'RUN_LOCKED');
    await lock.release();
    assert.deepEqual(await readdir(folder), ['lock']);
  });
});
