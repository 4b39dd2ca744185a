/** Uses real processes and signals, and a manual clock. Only starts and exits of processes take real time. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test, type TestContext } from 'node:test';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { isAlive } from '../../shared/process-identity.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';
import { LocalWorkers, type LocalWorkersInit, type LocalWorkerView } from './local-workers.ts';
import { writeWorkerFile, type WorkerFile } from './worker-files.ts';
import { POLL_INTERVAL_MS } from './worker-process.ts';

const URL = 'ws://127.0.0.1:7070';
const RESTART = { limit: 2, firstPauseMs: 1_000, longestPauseMs: 60_000 };
const GRACE_MS = 15_000;
const KILL_AFTER_MS = 5_000;
/** Limit of each wait, real ms. */
const DEADLINE_MS = 240_000;

type Command = NonNullable<LocalWorkersInit['command']>;

/** A worker whose program is this JavaScript. */
function script(code: string): Command {
  return [process.execPath, '-e', code, '--'];
}

const STAY = script(`
  console.log(JSON.stringify({ args: process.argv.slice(1), token: process.env.EXMIX_TOKEN }));
  setInterval(() => undefined, 1e6);`);
const LEAVE_WHEN_ASKED = script(`
  process.on('SIGTERM', () => process.exit(0));
  console.log('up');
  setInterval(() => undefined, 1e6);`);
const endWith = (status: number): Command => script(`process.exit(${status})`);

/** Every process that was started for a test. */
const pids = new Set<number>();
/** Removed at the end, when no process writes to them any more. */
const folders: string[] = [];

after(() => {
  const left = [...pids].filter(isAlive);
  for (const pid of left) process.kill(pid, 'SIGKILL');
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  assert.deepEqual(left, [], 'no process is left');
});

/** Waits until real processes have made the condition true. */
async function eventually(what: string, holds: () => boolean): Promise<void> {
  for (const startMs = performance.now(); !holds();) {
    assert.ok(performance.now() - startMs < DEADLINE_MS, `${what} within ${DEADLINE_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'exmix-local-workers-'));
  folders.push(folder);
  return folder;
}

/** A clock under which adopted processes are never polled. */
class BlindClock extends ManualClock {
  override sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return super.sleep(ms === POLL_INTERVAL_MS ? 1e9 : ms, signal);
  }
}

class Scene {
  readonly clock: ManualClock;
  readonly records: LogRecord[] = [];
  readonly folder: string;
  readonly workers: LocalWorkers;
  numCommitted = 0;
  isDismissed = false;

  constructor(t: TestContext, folder: string, change: Partial<LocalWorkersInit> = {}, clock = new ManualClock()) {
    this.clock = clock;
    this.folder = folder;
    this.workers = new LocalWorkers({
      count: 1,
      clock,
      restart: RESTART,
      graceMs: GRACE_MS,
      command: STAY,
      ...change,
    });
    t.after(() => this.end());
  }

  start(url = URL): Promise<void> {
    return this.workers.start({
      url,
      token: 'a token',
      logFolder: this.folder,
      log: createLogger({ level: 'debug', onRecord: (record) => this.#record(record) }),
      progress: { numCommitted: () => this.numCommitted, isDismissed: () => this.isDismissed },
    });
  }

  #record(record: LogRecord): void {
    this.records.push(record);
    const { msg, pid } = record;
    if ((msg === 'worker started' || msg === 'worker adopted') && typeof pid === 'number') pids.add(pid);
  }

  /** The records with this message, without the fields that every record has. */
  logged(wanted: string): Record<string, unknown>[] {
    const records = this.records.filter(({ msg }) => msg === wanted);
    const isOwn = ([name]: [string, unknown]): boolean => !['level', 'time', 'msg'].includes(name);
    return records.map((record) => Object.fromEntries(Object.entries(record).filter(isOwn)));
  }

  view(workerId = 'local-0'): LocalWorkerView {
    const found = this.workers.list().find((worker) => worker.workerId === workerId);
    assert.ok(found !== undefined, `${workerId} is there`);
    return found;
  }

  pid(workerId?: string): number {
    return this.view(workerId).pid!;
  }

  async state(state: string, workerId?: string): Promise<void> {
    await eventually(`${workerId ?? 'the worker'} is ${state}`, () => this.view(workerId).state === state);
  }

  /** Waits until a worker has printed the text. */
  async prints(text: string, workerId = 'local-0'): Promise<void> {
    await eventually(`${workerId} prints ${text}`, () =>
      readFileSync(join(this.folder, `${workerId}.log`), 'utf8').includes(text),
    );
  }

  files(): Promise<string[]> {
    return readdir(this.folder).then((names) => names.filter((name) => name.includes('.json')).sort());
  }

  /** Kills every process that the test has left. */
  async end(): Promise<void> {
    const stopped = this.workers.stop();
    await eventually('all are gone', () => {
      const alive = this.workers.list().filter(({ pid }) => pid !== null && isAlive(pid));
      for (const { pid } of alive) process.kill(pid!, 'SIGKILL');
      return alive.length === 0;
    });
    await this.clock.advance(GRACE_MS + POLL_INTERVAL_MS);
    await stopped;
  }
}

async function startScene(
  t: TestContext,
  change: Partial<LocalWorkersInit> = {},
  folder = newFolder(),
): Promise<Scene> {
  const scene = new Scene(t, folder, change);
  await scene.start();
  return scene;
}

/** Starts workers from a process and kills that process. @returns their pids */
async function leaveOrphans(folder: string, count: number): Promise<number[]> {
  const init = { count, restart: RESTART, graceMs: GRACE_MS, command: STAY };
  const start = { url: URL, token: 'a token', logFolder: folder };
  const code = `
    import { LocalWorkers } from './cli/launch/local-workers.ts';
    import { systemClock } from './shared/clock.ts';
    import { createLogger } from './shared/logger.ts';
    const workers = new LocalWorkers({ ...JSON.parse(process.argv[1]), clock: systemClock });
    await workers.start({
      ...JSON.parse(process.argv[2]),
      log: createLogger({}),
      progress: { numCommitted: () => 0, isDismissed: () => false },
    });
    process.stdout.write(JSON.stringify(workers.list().map(({ pid }) => pid)));`;
  const args = ['--import', 'tsx', '--input-type=module', '-e', code, JSON.stringify(init), JSON.stringify(start)];
  const parent = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    cwd: join(import.meta.dirname, '../..'),
  });
  const [output] = (await once(parent.stdout, 'data')) as [Buffer];
  parent.kill('SIGKILL');
  await once(parent, 'exit');
  const orphans = JSON.parse(output.toString()) as number[];
  for (const pid of orphans) {
    pids.add(pid);
    assert.ok(isAlive(pid), 'a worker outlives its parent');
  }
  return orphans;
}

describe('local workers', () => {
  test('start with URL, name and device, with the token in the environment and the output in a file', async (t) => {
    const scene = await startScene(t, { count: 2 });
    const { workers, folder } = scene;
    for (const index of [0, 1]) {
      const workerId = `local-${index}`;
      await scene.prints('"}', workerId);
      assert.deepEqual(JSON.parse(readFileSync(join(folder, `${workerId}.log`), 'utf8')), {
        args: ['--url', URL, '--id', workerId, '--local-rank', String(index)],
        token: 'a token',
      });
    }
    const views = workers.list();
    assert.deepEqual(
      views.map(({ workerId, state }) => [workerId, state]),
      [
        ['local-0', 'running'],
        ['local-1', 'running'],
      ],
    );
    assert.deepEqual(
      scene.logged('worker started'),
      views.map(({ workerId, pid }) => ({ workerId, pid })),
    );
  });

  test('stop waits for workers to exit, then sends SIGTERM, then SIGKILL', async (t) => {
    const scene = await startScene(t, { count: 2, command: LEAVE_WHEN_ASKED });
    const { workers, clock } = scene;
    await scene.prints('up', 'local-0');
    await scene.prints('up', 'local-1');
    process.kill(scene.pid('local-1'), 'SIGSTOP');
    const stopped = workers.stop();
    await clock.advance(GRACE_MS - 1);
    assert.equal(scene.logged('worker exited').length, 0);
    await clock.advance(1);
    await eventually('one exits', () => workers.list().length === 1);
    assert.deepEqual(scene.logged('worker exited').map(facts), [['local-0', 0, null]]);
    await clock.advance(KILL_AFTER_MS);
    await stopped;
    assert.deepEqual(scene.logged('worker exited').map(facts)[1], ['local-1', null, 'SIGKILL']);
    assert.deepEqual(workers.list(), []);
    assert.deepEqual(await scene.files(), []);
    assert.equal(scene.workers.failure, undefined);
  });

  test('a killed worker is restarted after a pause that doubles, and no more at the limit', async (t) => {
    const scene = await startScene(t);
    const { clock, folder } = scene;
    for (const [i, pauseMs] of [1_000, 2_000].entries()) {
      const pid = scene.pid();
      process.kill(pid, 'SIGKILL');
      await scene.state('waiting');
      await clock.advance(pauseMs - 1);
      assert.equal(scene.view().state, 'waiting');
      await clock.advance(1);
      assert.equal(scene.view().state, 'running');
      assert.notEqual(scene.pid(), pid);
      assert.deepEqual(scene.logged('worker restarts')[i], {
        workerId: 'local-0',
        pauseMs,
        attempt: i + 1,
        reason: `ended with SIGKILL; restart ${i + 1} of at most 2 without a committed step, in ${pauseMs} ms`,
      });
    }
    const pid = scene.pid();
    process.kill(pid, 'SIGKILL');
    await scene.state('given-up');
    const reason = `worker local-0 (pid ${pid}) ended with SIGKILL, after 2 restarts without a committed step; its log is ${folder}/local-0.log`;
    assert.equal(scene.workers.failure, reason);
    assert.deepEqual(scene.logged('worker given up'), [{ workerId: 'local-0', pid, reason }]);
    assert.equal(scene.logged('worker exited').length, 3);
    await eventually('its file is gone', () => !existsSync(join(folder, 'local-0.json')));
  });

  test('a committed step resets the count of restarts', async (t) => {
    const scene = await startScene(t, { restart: { ...RESTART, limit: 1 } });
    for (const step of [1, 2, 3]) {
      scene.numCommitted = step;
      assert.ok(scene.workers.kill('local-0'));
      await scene.state('waiting');
      await scene.clock.advance(RESTART.firstPauseMs);
      assert.equal(scene.view().state, 'running');
    }
    assert.deepEqual(
      scene.logged('worker restarts').map(({ attempt }) => attempt),
      [1, 1, 1],
    );
    scene.workers.kill('local-0');
    await scene.state('given-up');
  });

  test('a hung worker is killed by name; an unknown or ended one is not', async (t) => {
    const scene = await startScene(t);
    process.kill(scene.pid(), 'SIGSTOP');
    assert.equal(scene.workers.kill('elsewhere'), false);
    const pid = scene.pid();
    assert.equal(scene.workers.kill('local-0'), true);
    await scene.state('waiting');
    assert.equal(scene.logged('worker killed')[0]?.['pid'], pid);
    assert.ok(scene.workers.hasEnded('local-0', pid));
    assert.ok(!scene.workers.hasEnded('local-0', pid + 1) && !scene.workers.hasEnded('local-1', pid));
    assert.equal(scene.workers.kill('local-0'), false);
  });

  for (const [status, why] of [
    [2, 'usage or config'],
    [3, 'data'],
  ] as const)
    test(`a worker that exits with status ${status} (${why}) is not restarted`, async (t) => {
      const scene = await startScene(t, { command: endWith(status) });
      await scene.state('given-up');
      assert.match(
        scene.workers.failure ?? '',
        new RegExp(`ended with status ${status} \\(${why}\\).*local-0\\.log$`, 'u'),
      );
      assert.equal(scene.logged('worker restarts').length, 0);
    });

  test('a worker that exits with status 0 is not restarted', async (t) => {
    const scene = await startScene(t, { command: endWith(0) });
    await eventually('it is no longer listed', () => scene.workers.list().length === 0);
    assert.deepEqual(await scene.files(), []);
    assert.equal(scene.workers.failure, undefined);
    assert.deepEqual(
      scene.records.map(({ level, msg }) => `${level} ${msg}`),
      ['info worker started', 'debug worker exited'],
    );
  });

  test('a dismissed worker is not restarted, even if it is killed', async (t) => {
    const scene = await startScene(t);
    scene.isDismissed = true;
    process.kill(scene.pid(), 'SIGKILL');
    await eventually('it is no longer listed', () => scene.workers.list().length === 0);
    assert.equal(scene.workers.failure, undefined);
  });

  test('a missing program is retried up to the limit, and the failure has the reason', async (t) => {
    const scene = await startScene(t, { command: ['/no/such/program'], restart: { ...RESTART, limit: 1 } });
    await scene.state('waiting');
    await scene.clock.advance(RESTART.firstPauseMs);
    await scene.state('given-up');
    assert.equal(scene.view().pid, null);
    assert.match(
      scene.workers.failure ?? '',
      /^worker local-0 could not be started: spawn .*ENOENT, after 1 restart /u,
    );
  });

  test('add uses the next free number, and fails after stop', async (t) => {
    const scene = await startScene(t, { count: 2 });
    assert.equal(scene.workers.add(), 'local-2');
    assert.equal(scene.workers.add(), 'local-3');
    scene.isDismissed = true;
    scene.workers.kill('local-1');
    await eventually('it has exited', () => scene.workers.list().length === 3);
    scene.isDismissed = false;
    assert.equal(scene.workers.add(), 'local-1');
    await scene.prints('"--local-rank","3"', 'local-3');
    await scene.end();
    assert.throws(() => scene.workers.add(), { code: 'ABORTED' });
  });

  test('stop cancels a pending restart', async (t) => {
    const scene = await startScene(t);
    scene.workers.kill('local-0');
    await scene.state('waiting');
    await scene.workers.stop();
    await scene.clock.advance(RESTART.longestPauseMs);
    assert.equal(scene.logged('worker started').length, 1);
    assert.deepEqual(scene.workers.list(), []);
    assert.deepEqual(await scene.files(), []);
  });

  test('without a log folder, no worker is started', async (t) => {
    const scene = new Scene(t, join(newFolder(), 'nowhere'));
    await assert.rejects(scene.start(), { code: 'PATH_UNUSABLE' });
    assert.deepEqual(scene.workers.list(), []);
  });

  test('a worker file that cannot be written is logged, and the worker continues', async (t) => {
    const folder = newFolder();
    const scene = await startScene(t, { count: 0 }, folder);
    mkdirSync(join(folder, 'local-0.json'));
    scene.workers.add();
    await eventually('it is logged', () => scene.logged('worker file not written').length === 1);
    assert.equal(scene.logged('worker file not written')[0]!['code'], 'PATH_UNUSABLE');
    assert.equal(scene.view().state, 'running');
  });
});

describe('orphans of an exmix train that was killed', () => {
  test('are adopted, restarted as children when they die, and stopped even if they ignore SIGTERM', async (t) => {
    const folder = newFolder();
    const orphans = await leaveOrphans(folder, 2);
    const scene = await startScene(t, { count: 3 }, folder);
    const { workers, clock } = scene;
    assert.deepEqual([scene.pid('local-0'), scene.pid('local-1')], orphans);
    assert.deepEqual(
      scene.logged('worker adopted'),
      orphans.map((pid, i) => ({ workerId: `local-${i}`, pid })),
    );
    assert.deepEqual(
      scene.logged('worker started').map(({ workerId }) => workerId),
      ['local-2'],
    );

    process.kill(orphans[0]!, 'SIGKILL');
    await eventually('it is dead', () => !isAlive(orphans[0]!));
    await clock.advance(POLL_INTERVAL_MS);
    await scene.state('waiting', 'local-0');
    await clock.advance(RESTART.firstPauseMs);
    assert.equal(scene.view('local-0').state, 'running');
    assert.notEqual(scene.pid('local-0'), orphans[0]);

    process.kill(orphans[1]!, 'SIGSTOP');
    const stopped = workers.stop();
    await clock.advance(GRACE_MS);
    await eventually('the children are gone', () => workers.list().length === 1);
    assert.ok(isAlive(orphans[1]!));
    await clock.advance(KILL_AFTER_MS);
    await eventually('the adopted one is gone', () => !isAlive(orphans[1]!));
    await clock.advance(POLL_INTERVAL_MS);
    await stopped;
    assert.deepEqual(workers.list(), []);
    assert.deepEqual(await scene.files(), []);
    assert.deepEqual(scene.logged('worker does not end'), []);
  });

  test('in excess of the count are adopted too, and keep their numbers', async (t) => {
    const folder = newFolder();
    const orphans = await leaveOrphans(folder, 2);
    const scene = await startScene(t, { count: 1 }, folder);
    assert.deepEqual(
      scene.workers.list().map(({ pid }) => pid),
      orphans,
    );
    assert.equal(scene.workers.add(), 'local-2');
  });

  test('that exit when the run ends are not restarted', async (t) => {
    const folder = newFolder();
    const [orphan] = await leaveOrphans(folder, 1);
    const scene = await startScene(t, {}, folder);
    scene.isDismissed = true;
    process.kill(orphan!, 'SIGTERM');
    await eventually('it has exited', () => !isAlive(orphan!));
    await scene.clock.advance(POLL_INTERVAL_MS);
    await eventually('it is no longer listed', () => scene.workers.list().length === 0);
    assert.deepEqual(await scene.files(), []);
  });

  test('whose end is not seen after SIGKILL are logged, and stop does not wait for them for ever', async (t) => {
    const folder = newFolder();
    const [orphan] = await leaveOrphans(folder, 1);
    const scene = new Scene(t, folder, {}, new BlindClock());
    await scene.start();
    const stopped = scene.workers.stop();
    for (const ms of [GRACE_MS, KILL_AFTER_MS, KILL_AFTER_MS - 1]) await scene.clock.advance(ms);
    assert.deepEqual(scene.logged('worker does not end'), []);
    await scene.clock.advance(1);
    await stopped;
    assert.deepEqual(scene.logged('worker does not end'), [{ workerId: 'local-0', pid: orphan }]);
    assert.deepEqual(await scene.files(), ['local-0.json'], 'the next exmix train may find it');
  });

  test('of another URL are killed, and new workers are started', async (t) => {
    const folder = newFolder();
    const [orphan] = await leaveOrphans(folder, 1);
    const scene = new Scene(t, folder);
    const started = scene.start('ws://127.0.0.1:7071');
    await eventually('it is dead', () => !isAlive(orphan!));
    assert.deepEqual(scene.workers.list(), [], 'no second process is started');
    await scene.clock.advance(POLL_INTERVAL_MS);
    await started;
    assert.notEqual(scene.pid(), orphan);
    const reason = 'it dials ws://127.0.0.1:7070, not ws://127.0.0.1:7071: killed';
    assert.deepEqual(scene.logged('worker not adopted'), [{ workerId: 'local-0', pid: orphan, reason }]);
  });

  test('whose pid now belongs to another process are neither adopted nor signalled', async (t) => {
    const folder = newFolder();
    const [stranger] = await leaveOrphans(folder, 1);
    const file = join(folder, 'local-0.json');
    const { process: identity, url } = JSON.parse(readFileSync(file, 'utf8')) as WorkerFile;
    await writeWorkerFile(folder, 0, { process: { ...identity, processStart: '1' }, url });
    const scene = await startScene(t, {}, folder);
    assert.notEqual(scene.pid(), stranger);
    const reason = 'that process is gone and its number is used by another';
    assert.deepEqual(scene.logged('worker not adopted'), [{ workerId: 'local-0', pid: stranger, reason }]);
    await scene.end();
    assert.ok(isAlive(stranger!));
    process.kill(stranger!, 'SIGKILL');
    await eventually('it is dead', () => !isAlive(stranger!));
  });

  test('in another container with the same host name are neither adopted nor signalled, though their pid is taken here', async (t) => {
    const folder = newFolder();
    const [stranger] = await leaveOrphans(folder, 1);
    const file = join(folder, 'local-0.json');
    const { process: identity } = JSON.parse(readFileSync(file, 'utf8')) as WorkerFile;
    await writeWorkerFile(folder, 0, { process: { ...identity, pidNamespace: 'pid:[1]' }, url: URL });
    const scene = await startScene(t, {}, folder);
    assert.notEqual(scene.pid(), stranger);
    const [record] = scene.logged('worker not adopted') as { reason: string }[];
    assert.match(record!.reason, /cannot be checked from here$/u);
    await scene.end();
    assert.ok(isAlive(stranger!));
    process.kill(stranger!, 'SIGKILL');
    await eventually('it is dead', () => !isAlive(stranger!));
  });

  test('that a stranger’s folder names are neither adopted nor killed', async (t) => {
    const [folder, other] = [newFolder(), newFolder()];
    const [mine] = await leaveOrphans(other, 1);
    const file = readFileSync(join(other, 'local-0.json'), 'utf8');
    const { process: identity } = JSON.parse(file) as WorkerFile;
    writeFileSync(join(folder, 'local-0.json'), file); // the seal is of another folder
    writeFileSync(join(folder, 'local-1.json'), JSON.stringify({ process: identity, url: 'ws://stranger:1' }));
    writeFileSync(join(folder, 'local-2.json'), JSON.stringify({ process: identity, url: URL, seal: '0'.repeat(64) }));
    const scene = await startScene(t, {}, folder);
    assert.deepEqual(
      scene.logged('worker not adopted').map(({ workerId }) => workerId),
      ['local-0', 'local-1', 'local-2'],
    );
    assert.notEqual(scene.pid(), mine);
    assert.ok(isAlive(mine!));
    process.kill(mine!, 'SIGKILL');
    await eventually('it is dead', () => !isAlive(mine!));
  });

  test('on another host, and files in another format, are ignored and logged', async (t) => {
    const folder = newFolder();
    const elsewhere = { pid: 4_000_000, host: 'elsewhere', bootId: null, pidNamespace: null, processStart: null };
    await writeWorkerFile(folder, 0, { process: elsewhere, url: URL });
    writeFileSync(join(folder, 'local-1.json'), 'precious');
    writeFileSync(join(folder, 'local-7.json.new-elsewhere-1-0-0'), '{');
    const scene = await startScene(t, {}, folder);
    assert.deepEqual(
      scene.logged('worker not adopted').map(({ workerId, reason }) => [workerId, reason]),
      [
        ['local-0', 'process 4000000 on elsewhere cannot be checked from here'],
        ['local-1', "its file has no seal of this user's exmix"],
      ],
    );
    assert.deepEqual(await scene.files(), ['local-0.json']);
    assert.deepEqual(scene.workers.list().length, 1);
  });
});

function facts({ workerId, exitCode, signal }: Record<string, unknown>): unknown[] {
  return [workerId, exitCode, signal];
}
