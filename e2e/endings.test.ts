/**
 * Endings of runs of real processes: signals to one, some or all of them, at any moment. No committed step is lost, the exit statuses follow
 * the run, and a resumed run has the bits of an undisturbed one. `EXMIX_TEST_MOMENTS` sets the number of random moments, `EXMIX_TEST_SEED`
 * chooses others.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { LogRecord } from '../shared/logger.ts';
import { isAlive } from '../shared/process-identity.ts';
import { RandomStream } from '../shared/random.ts';
import {
  exmix,
  finalDigest,
  killWorkers,
  logged,
  readLog,
  startExmix,
  temporaryFolder,
  TINY,
  type RunningExmix,
} from './exmix-process.ts';

const NUM_MOMENTS = Number(process.env['EXMIX_TEST_MOMENTS'] ?? 4);
const SEED = Number(process.env['EXMIX_TEST_SEED'] ?? 1);

const folder = temporaryFolder();
const home = join(folder, 'home');
const tokenFile = join(folder, 'token');
const runFolders = new Set<string>();
const started: RunningExmix[] = [];

function runFolder(name: string): string {
  const path = join(folder, name);
  runFolders.add(path);
  return path;
}

function start(args: readonly string[]): RunningExmix {
  const running = startExmix(args, home);
  started.push(running);
  return running;
}

/** Waits for a matching record after the first `from`. @returns it */
async function recordOf(
  run: string,
  from: number,
  matches: (record: LogRecord) => boolean,
  what: string,
): Promise<LogRecord> {
  const at = await logged(run, from, matches, what);
  return readLog(run)[at]!;
}

const is =
  (msg: string, fields: Readonly<Record<string, unknown>> = {}) =>
  (record: LogRecord): boolean =>
    record.msg === msg && Object.entries(fields).every(([name, value]) => record[name] === value);

function localPids(run: string): number[] {
  const workers = join(run, 'workers');
  if (!existsSync(workers)) return [];
  return readdirSync(workers)
    .filter((file) => file.endsWith('.json'))
    .flatMap((file) => {
      try {
        const { process: worker } = JSON.parse(readFileSync(join(workers, file), 'utf8')) as {
          process: { pid: number };
        };
        return [worker.pid];
      } catch {
        return []; // it has just been removed
      }
    });
}

function kill(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // it has ended
  }
}

/** Step of the last commit of the run, and of its newest checkpoint. */
function committedAndSaved(run: string): [number, number] {
  const all = readLog(run);
  const committed = Number(all.findLast(is('step committed'))?.['step'] ?? 0);
  const steps = readdirSync(join(run, 'checkpoints'))
    .filter((name) => existsSync(join(run, 'checkpoints', name, 'manifest.json')))
    .flatMap((name) => /^step-(\d+)$/u.exec(name)?.[1] ?? []);
  return [committed, Math.max(0, ...steps.map(Number))];
}

/** No committed step is lost, and no output says otherwise. */
function assertNothingLost(run: string, output: string): void {
  const [committed, saved] = committedAndSaved(run);
  assert.equal(saved, committed, output);
  assert.ok(!output.includes('NOT saved') && !output.includes('NOT_SAVED'), output);
  assert.doesNotMatch(output, /everything is saved[^]*checkpoint {2}none/u);
}

/** Trains the steps that the run has, undisturbed, and compares the parameters. */
async function assertUndisturbedBits(run: string): Promise<void> {
  const straight = `${run}-straight`;
  const [steps] = committedAndSaved(run);
  const ended = await exmix(
    ['train', '--config', TINY, '--run-dir', straight, '--workers', '1', '--steps', String(steps)],
    home,
  );
  assert.equal(ended.code, 0, ended.stdout + ended.stderr);
  assert.equal(finalDigest(run), finalDigest(straight));
}

/** A coordinator and two workers, in commands of their own, at their second step. */
async function startApart(name: string, ...settings: string[]) {
  const run = runFolder(name);
  const args = [
    '--config',
    TINY,
    '--run-dir',
    run,
    '--steps',
    '100000',
    '--min-workers',
    '1',
    '--token-file',
    tokenFile,
  ];
  const more = ['cluster.startWorkers=2', ...settings].flatMap((setting) => ['--set', setting]);
  const coordinator = start(['coordinator', ...args, ...more]);
  await coordinator.printed(/coordinator listens/u);
  const { url } = await recordOf(run, 0, is('coordinator listens'), 'the coordinator');
  const workers = ['a', 'b'].map((id) => startWorker(String(url), id));
  await logged(run, 0, is('step committed', { step: 2 }), 'step 2');
  return { run, coordinator, workers, url: String(url), all: [coordinator, ...workers] };
}

function startWorker(url: string, id: string): RunningExmix {
  return start(['worker', '--url', url, '--id', id, '--token-file', tokenFile]);
}

/** A port that nobody listens on now. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

before(() => writeFileSync(tokenFile, 'the-token-of-this-test'));

after(() => {
  for (const run of runFolders) killWorkers(run);
  for (const { child } of started) if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
});

describe('a signal to all processes at once', () => {
  test(`loses no committed step, at ${NUM_MOMENTS} random moments of one run`, async () => {
    const random = new RandomStream([SEED]);
    const run = runFolder('random');
    const command = ['train', '--config', TINY, '--run-dir', run, '--workers', '2', '--steps', '100000'];
    const args = [...command, '--set', 'checkpoint.everySteps=3', '--set', 'checkpoint.keepLast=3'];
    for (let moment = 0; moment < NUM_MOMENTS; moment++) {
      const from = readLog(run).length;
      const train = start(args);
      // In turn: while it trains, while a checkpoint is written, while workers start.
      const [msg, withinMs] = [
        ['step committed', 600],
        ['checkpoint published', 300],
        ['worker started', 3_000],
      ][moment % 3] as [string, number];
      const early = train.ended.then(({ code, stdout, stderr }) => {
        throw new Error(`ended with ${String(code)} before "${msg}"\n${stdout}${stderr}`);
      });
      await Promise.race([early, logged(run, from, is(msg), msg)]);
      const afterMs = random.nextBelow(withinMs);
      await new Promise((resolve) => setTimeout(resolve, afterMs)); // the random moment
      const pids = [train.child.pid!, ...localPids(run)];
      if (random.nextBelow(2) === 1) pids.reverse();
      for (const pid of pids) kill(pid, 'SIGTERM');
      const { code, stdout, stderr } = await train.ended;
      const output = `moment ${moment}, ${afterMs} ms after "${msg}"\n${stdout}${stderr}`;
      assert.equal(code, 130, output);
      assertNothingLost(run, output);
      for (const pid of pids) assert.ok(!isAlive(pid), `${pid} is left\n${output}`);
    }
    const steps = String(committedAndSaved(run)[0] + 2);
    const resumed = await exmix(['train', '--resume', run, '--workers', '3', '--steps', steps], home);
    assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
    await assertUndisturbedBits(run);
    const audit = await exmix(['ledger', 'audit', run], home);
    assert.equal(audit.code, 0, audit.stdout + audit.stderr);
  });

  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const)
    test(`${signal} to coordinator and workers in commands of their own: all save, and end with 130`, async () => {
      const { run, all } = await startApart(`apart-${signal}`, 'checkpoint.everySteps=100000');
      for (const { child } of all) child.kill(signal);
      for (const { ended } of all) {
        const { code, stdout, stderr } = await ended;
        assert.equal(code, 130, stdout + stderr);
        assert.doesNotMatch(stdout + stderr, /Debugger listening/u);
      }
      assertNothingLost(run, (await all[0]!.ended).stdout);
      assert.ok(readLog(run).some(is('run interrupted')));
    });

  test('to the workers alone: the state is saved before the last one leaves, and new workers continue from it', async () => {
    const { run, workers, coordinator, url } = await startApart('workers', 'checkpoint.everySteps=100000');
    for (const { child } of workers) child.kill('SIGTERM');
    for (const { ended } of workers) assert.equal((await ended).code, 130);
    assertNothingLost(run, '');
    const from = readLog(run).length;
    const [committed] = committedAndSaved(run);
    const next = startWorker(url, 'c');
    await logged(run, from, is('step committed', { step: committed + 1 }), 'the next step');
    coordinator.child.kill('SIGTERM');
    assert.equal((await coordinator.ended).code, 130);
    assert.equal((await next.ended).code, 130, 'its exit status is that of the run');
    assert.ok(!readLog(run).some(is('run goes back')));
    await assertUndisturbedBits(run);
  });
});

describe('a signal to one process', () => {
  test('a worker leaves at the next step boundary: no step is done again, and the other one continues', async () => {
    const { run, workers, coordinator } = await startApart('lone', 'checkpoint.everySteps=100000');
    workers[0]!.child.kill('SIGTERM');
    assert.equal((await workers[0]!.ended).code, 130);
    const formed = await recordOf(run, 0, is('generation formed', { worldSize: 1 }), 'a generation without it');
    await logged(run, 0, is('step committed', { step: Number(formed['firstStep']) + 2 }), 'steps without it');
    coordinator.child.kill('SIGTERM');
    assert.equal((await coordinator.ended).code, 130);
    const all = readLog(run);
    assert.match(String(all.find(is('generation changes'))?.['reason']), /^a \(SIGTERM\) leaves$/u);
    assert.ok(!all.some(is('generation ended')), 'no step was broken off');
    const steps = all.filter(is('step committed')).map(({ step }) => Number(step));
    assert.deepEqual(
      steps,
      steps.map((_, i) => i + 1),
    );
    await assertUndisturbedBits(run);
  });

  test('SIGHUP to exmix train saves, and leaves no worker behind', async () => {
    const run = runFolder('hangup');
    const train = start(['train', '--config', TINY, '--run-dir', run, '--workers', '2', '--steps', '100000']);
    await logged(run, 0, is('step committed', { step: 2 }), 'step 2');
    const pids = localPids(run);
    assert.equal(pids.length, 2);
    train.child.kill('SIGHUP');
    const { code, stdout } = await train.ended;
    assert.equal(code, 130);
    assert.match(stdout, /Run interrupted by SIGHUP; everything is saved/u);
    assertNothingLost(run, stdout);
    for (const pid of pids) assert.ok(!isAlive(pid), `worker ${pid} is left`);
  });

  test('a second signal ends a worker, and a coordinator, at once: NOT_SAVED where a committed step is in no checkpoint', async () => {
    const { run, workers, coordinator } = await startApart('second', 'checkpoint.everySteps=100000');
    coordinator.child.kill('SIGSTOP'); // gives no leave
    const [first, second] = workers;
    first!.child.kill('SIGTERM');
    await first!.printed(/worker drains/u);
    first!.child.kill('SIGINT');
    assert.equal((await first!.ended).code, 130);
    second!.child.kill('SIGSTOP'); // cannot save
    coordinator.child.kill('SIGCONT');
    coordinator.child.kill('SIGTERM');
    await logged(run, 0, is('run is to stop'), 'the stop');
    coordinator.child.kill('SIGINT');
    const { code, stdout, stderr } = await coordinator.ended;
    assert.equal(code, 4, stdout + stderr);
    assert.match(stderr, /NOT_SAVED/u);
    assert.match(stderr, /step \d+ is NOT saved: there is no checkpoint, and the steps after it are trained again/u);
    assert.match(stderr, /^Resume with: node .*cli\/exmix\.mjs coordinator --resume /mu);
    second!.child.kill('SIGKILL');
  });
});

describe('the same command on a finished run', () => {
  test('ends with 0 at once, starts no worker, and tells workers that dial', async () => {
    const run = runFolder('finished');
    const train = ['train', '--config', TINY, '--run-dir', run, '--workers', '1', '--steps', '2'];
    assert.equal((await exmix(train, home)).code, 0);
    const from = readLog(run).length;
    const again = await exmix(train, home);
    assert.equal(again.code, 0, again.stdout + again.stderr);
    assert.match(again.stdout, /Run finished/u);
    assert.ok(!readLog(run).slice(from).some(is('worker started')));
    const port = await freePort();
    const worker = startWorker(`ws://127.0.0.1:${port}`, 'early');
    await worker.printed(/waiting for the coordinator/u);
    const resume = ['--resume', run, '--steps', '2', '--min-workers', '1', '--port', String(port)];
    const coordinator = start(['coordinator', ...resume, '--token-file', tokenFile]);
    assert.equal((await worker.ended).code, 0, 'a worker of a finished run has nothing to do');
    assert.equal((await coordinator.ended).code, 0);
  });
});
