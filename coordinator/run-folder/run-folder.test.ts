import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { watch } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { throwIfAborted } from '../../shared/abort.ts';
import { systemClock } from '../../shared/clock.ts';
import { ownIdentity } from '../../shared/process-identity.ts';
import { createRunFolder, openRunFolder, readRunConfig, resolveResume, checkFreeSpace } from './run-folder.ts';
import { acquireRunLock, judgeOwner, LEASE_MS, type LockInit, type LockOwner, type LockWait } from './run-lock.ts';

const NOW_MS = Date.UTC(2026, 10, 23, 5, 5, 48);
const never = new AbortController().signal;
const LOCK: LockInit = {
  clock: { ...systemClock, wallMs: () => NOW_MS },
  signal: never,
  onWaiting: ({ reason }) => assert.fail(`it waits: ${reason}`),
};
let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'exmix-run-'));
});
after(() => rm(root, { recursive: true, force: true }));
const newRoot = () => mkdtemp(join(root, 'case-'));

const create = (runsFolder: string) =>
  createRunFolder({ runsFolder, name: 'tiny', lock: LOCK, configText: 'seed: 7\n', requiredBytes: 1 });

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
    const again = await openRunFolder(run.folder, LOCK, 1);
    assert.deepEqual(await readdir(run.checkpoints), ['step-8']);
    assert.equal(again.notes.length, 2);
    assert.match(again.notes[1] ?? '', /removed .*\.writing-step-000012-e1-g2, which a killed run left unfinished/);
    await again.lock.release();
  });

  /** A run folder and a file of the user outside of it. */
  async function strangersFolder(): Promise<{ folder: string; mine: string }> {
    const parent = await newRoot();
    const run = await create(parent);
    await run.lock.release();
    const mine = join(parent, 'mine');
    await writeFile(mine, 'mine\n');
    await mkdir(join(run.folder, 'workers'));
    await mkdir(join(run.folder, 'ledger'));
    return { folder: run.folder, mine };
  }

  for (const name of [
    'journal',
    'journal.own',
    'coordinator.jsonl',
    'lock',
    'ledger/segment-000001.ledger',
    'ledger/segment-000001.ledger.own',
    'workers/local-0.log',
    'workers/local-0.json',
  ]) {
    test(`a link in place of ${name} is refused, and the file that it names stays as it was`, async () => {
      const { folder, mine } = await strangersFolder();
      await symlink(mine, join(folder, name));
      const expected = { code: 'PATH_UNUSABLE', message: /expected a regular file, found a symbolic link/u };
      await assert.rejects(openRunFolder(folder, LOCK, 1), expected);
      assert.equal(await readFile(mine, 'utf8'), 'mine\n');
      assert.equal((await readdir(folder)).includes('lock'), name === 'lock');
    });

    test(`a FIFO in place of ${name} is refused at once`, async () => {
      const { folder } = await strangersFolder();
      execFileSync('mkfifo', [join(folder, name)]);
      await assert.rejects(openRunFolder(folder, LOCK, 1), { code: 'PATH_UNUSABLE', message: /of another kind/u });
    });
  }

  for (const name of ['checkpoints', 'ledger', 'workers'])
    test(`${name} as a link into another run is refused, as a link to another disk it is not`, async () => {
      const victim = await create(await newRoot());
      await victim.lock.release();
      const { folder } = await strangersFolder();
      await mkdir(join(victim.folder, name, '.writing-step-000004-e1-g1'), { recursive: true });
      await rm(join(folder, name), { recursive: true });
      await symlink(join(victim.folder, name), join(folder, name));
      const expected = { code: 'PATH_UNUSABLE', message: /is a link into another run/u };
      await assert.rejects(openRunFolder(folder, LOCK, 1), expected);
      assert.deepEqual(await readdir(join(victim.folder, name)), ['.writing-step-000004-e1-g1'], 'nothing is removed');

      await rm(join(folder, name));
      const disk = await newRoot();
      await symlink(disk, join(folder, name));
      const run = await openRunFolder(folder, LOCK, 1);
      await run.lock.release();
    });

  test('a name that is no folder name, a file in place of the folder and a folder that is no run are PATH_UNUSABLE', async () => {
    const parent = await newRoot();
    const init = { runsFolder: parent, lock: LOCK, configText: '', requiredBytes: 1 };
    await assert.rejects(createRunFolder({ ...init, name: '../elsewhere' }), {
      code: 'PATH_UNUSABLE',
      message: /run name/,
    });
    await writeFile(join(parent, 'file'), '');
    await assert.rejects(create(join(parent, 'file', 'runs')), { code: 'PATH_UNUSABLE', message: /ENOTDIR/ });
    await assert.rejects(openRunFolder(parent, LOCK, 1), { code: 'PATH_UNUSABLE', message: /no config\.yaml/ });
  });

  test('a folder that cannot be written is PATH_UNUSABLE before training', async () => {
    await assert.rejects(checkFreeSpace('/proc/self', 1), { code: 'PATH_UNUSABLE' });
  });

  test('a disk without space for the checkpoints is DISK_FULL with the numbers, and no folder is left', async () => {
    const parent = await newRoot();
    const init = { runsFolder: parent, name: 'big', lock: LOCK, configText: '', requiredBytes: 2 ** 60 };
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
    import { systemClock } from '${new URL('../../shared/clock.ts', import.meta.url).href}';
    const clock = { ...systemClock, wallMs: () => ${NOW_MS} };
    await acquireRunLock(process.argv[1], { clock, signal: new AbortController().signal, onWaiting: () => undefined });
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
    await assert.rejects(acquireRunLock(folder, LOCK), (error: Error & { code?: string }) => {
      assert.equal(error.code, 'RUN_LOCKED');
      assert.ok(error.message.includes(`held by ${owner}`), error.message);
      return true;
    });
    child.kill('SIGKILL');
    await once(child, 'exit');
    const lock = await acquireRunLock(folder, LOCK);
    assert.equal(lock.takenOver, `took over the lock of ${owner}: that process is gone`);
    await lock.release();
    assert.deepEqual(await readdir(folder), []);
  });

  test('of many that lock at once exactly one succeeds', async () => {
    const folder = await newRoot();
    const results = await Promise.allSettled(Array.from({ length: 12 }, () => acquireRunLock(folder, LOCK)));
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
    const own = await acquireRunLock(folder, LOCK);
    await own.release();
    await writeFile(path, JSON.stringify({ ...own.owner, ...change }));
    const then = new Date(Date.now() - ageMs);
    await utimes(path, then, then);
  }

  const stale: readonly (readonly [string, Record<string, unknown>, number, RegExp])[] = [
    ['of another boot of this machine', { bootId: 'earlier' }, 2 * LEASE_MS, /not renewed for 1[12]\d s/],
    ['of a process whose number was given to another', { processStart: '1' }, 0, /its number is used by another$/],
    ['of another host that stopped renewing it', { host: 'elsewhere' }, 2 * LEASE_MS, /not renewed for 1[12]\d s/],
    ['of another container', { pidNamespace: 'pid:[1]' }, 2 * LEASE_MS, /not renewed for 1[12]\d s/],
    ['of an earlier version', { pidNamespace: undefined }, 2 * LEASE_MS, /not renewed for 1[12]\d s/],
  ];
  for (const [name, change, ageMs, reason] of stale)
    test(`a lock ${name} is taken over`, async () => {
      const folder = await newRoot();
      await forgeLock(folder, { id: 'other', ...change }, ageMs);
      const lock = await acquireRunLock(folder, LOCK);
      assert.match(lock.takenOver ?? '', reason);
      await lock.release();
    });

  /** A clock on which every wait makes the lock of the folder older. @param onWait called after each wait */
  function agingClock(folder: string, onWait: (nowMs: number) => unknown = () => undefined) {
    const path = join(folder, 'lock');
    const clock = {
      nowMs: 0,
      monotonicMs: () => clock.nowMs,
      wallMs: () => NOW_MS + clock.nowMs,
      sleep: async (ms: number, signal?: AbortSignal) => {
        throwIfAborted(signal, 'waiting');
        clock.nowMs += ms;
        const then = new Date((await stat(path)).mtimeMs - ms);
        await utimes(path, then, then);
        await onWait(clock.nowMs);
      },
    };
    return clock;
  }

  /** A kernel gives files the time of its last tick, which is up to 10 ms old. */
  const FILE_CLOCK_MS = 10;

  for (const [what, change] of [
    ['another host', { host: 'elsewhere' }],
    ['another container with the same host name', { pidNamespace: 'pid:[1]', pid: 4_000_000 }],
    ['another boot', { bootId: 'earlier', pid: 4_000_000 }],
  ] as const) {
    test(`the lease of an owner in ${what} is waited out, which is told once with its end`, async () => {
      const folder = await newRoot();
      await forgeLock(folder, { id: 'other', ...change }, 5_000);
      const clock = agingClock(folder);
      const waits: LockWait[] = [];
      const lock = await acquireRunLock(folder, { clock, signal: never, onWaiting: (wait) => waits.push(wait) });
      assert.match(lock.takenOver ?? '', /took over the lock of process .* not renewed for 6\d s/);
      assert.ok(clock.nowMs > LEASE_MS - 15_000 && clock.nowMs <= LEASE_MS - 3_000, String(clock.nowMs));
      assert.equal(waits.length, 1);
      assert.match(waits[0]!.reason, /held by process \d+ on .*; another host or container, so this coordinator waits/);
      const leftMs = Date.parse(waits[0]!.until) - NOW_MS;
      assert.ok(leftMs > LEASE_MS - 15_000 && leftMs <= LEASE_MS - 5_000 + FILE_CLOCK_MS, String(leftMs));
      await lock.release();
    });

    test(`a lock of ${what} that is renewed is respected after one lease`, async () => {
      const folder = await newRoot();
      await forgeLock(folder, { id: 'other', ...change }, LEASE_MS / 2);
      const renew = (nowMs: number) =>
        nowMs % 10_000 === 0 ? utimes(join(folder, 'lock'), new Date(), new Date()) : undefined;
      const clock = agingClock(folder, renew);
      await assert.rejects(acquireRunLock(folder, { clock, signal: never, onWaiting: () => undefined }), {
        code: 'RUN_LOCKED',
        message: /held by process \d+ on .*, which still renews it \(\d+ s ago\): stop it first/,
      });
      assert.equal(clock.nowMs, LEASE_MS);
      assert.deepEqual(await readdir(folder), ['lock']);
    });
  }

  test('an owner that dies during the wait is waited for until its last lease ends', async () => {
    const folder = await newRoot();
    await forgeLock(folder, { id: 'other', host: 'elsewhere' });
    const renewOnce = (nowMs: number) =>
      nowMs === 30_000 ? utimes(join(folder, 'lock'), new Date(), new Date()) : undefined;
    const clock = agingClock(folder, renewOnce);
    const lock = await acquireRunLock(folder, { clock, signal: never, onWaiting: () => undefined });
    assert.ok(clock.nowMs > 30_000 + LEASE_MS - 5_000 && clock.nowMs <= 32_000 + LEASE_MS, String(clock.nowMs));
    await lock.release();
  });

  test('a lock that is released during the wait is acquired', async () => {
    const folder = await newRoot();
    await forgeLock(folder, { id: 'other', host: 'elsewhere' });
    const clock = agingClock(folder, (nowMs) => (nowMs === 3_000 ? rm(join(folder, 'lock')) : undefined));
    const lock = await acquireRunLock(folder, { clock, signal: never, onWaiting: () => undefined });
    assert.deepEqual([lock.takenOver, clock.nowMs], [undefined, 3_000]);
    await lock.release();
  });

  test('the signal ends the wait, and the lock stays', async () => {
    const folder = await newRoot();
    await forgeLock(folder, { id: 'other', host: 'elsewhere' });
    const stop = new AbortController();
    const clock = agingClock(folder, () => stop.abort());
    const acquiring = acquireRunLock(folder, { clock, signal: stop.signal, onWaiting: () => undefined });
    await assert.rejects(acquiring, { code: 'ABORTED' });
    assert.deepEqual(await readdir(folder), ['lock']);
  });

  test('an owner of this place is judged by its process, one of another place by lease and renewal', () => {
    const own: LockOwner = { id: 'other', ...ownIdentity(), startedAt: '2026-11-23T05:05:48.000Z' };
    const other = { ...own, pidNamespace: 'pid:[1]' };
    const kindOf = (owner: LockOwner, ageMs: number, waitedMs: number) => judgeOwner(owner, { ageMs, waitedMs }).kind;
    for (const [owner, ageMs, waitedMs, kind] of [
      [own, 0, 0, 'alive'],
      [own, 10 * LEASE_MS, 0, 'alive'],
      [{ ...own, processStart: '1' }, 0, 0, 'dead'],
      [other, 0, 0, 'unknown'],
      [other, LEASE_MS, 0, 'unknown'],
      [other, LEASE_MS + 1, 0, 'dead'],
      [other, 0, LEASE_MS - 1, 'unknown'],
      [other, 20_000, LEASE_MS, 'alive'],
      [other, 20_001, LEASE_MS, 'unknown'],
      [other, LEASE_MS + 1, 2 * LEASE_MS, 'dead'],
    ] as const)
      assert.equal(kindOf(owner, ageMs, waitedMs), kind, `${owner.pidNamespace ?? ''} ${ageMs} ${waitedMs}`);
  });

  test('a lock file that exmix did not write is left alone', async () => {
    const folder = await newRoot();
    await writeFile(join(folder, 'lock'), 'precious');
    await assert.rejects(acquireRunLock(folder, LOCK), { code: 'PATH_UNUSABLE', message: /not a lock of exmix/ });
    assert.equal(await readFile(join(folder, 'lock'), 'utf8'), 'precious');
  });

  test('the owner renews its lock without changing it', async (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] });
    const folder = await newRoot();
    const path = join(folder, 'lock');
    const lock = await acquireRunLock(folder, LOCK);
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
    const lock = await acquireRunLock(folder, LOCK);
    await writeFile(join(folder, 'lock'), JSON.stringify({ ...lock.owner, id: 'other' }));
    context.mock.timers.tick(10_000);
    if (!lock.lost.aborted) await once(lock.lost, 'abort');
    assert.equal((lock.lost.reason as { code: string }).code, 'RUN_LOCKED');
    await lock.release();
    assert.deepEqual(await readdir(folder), ['lock']);
  });
});
