/** One run of real processes whose workers and coordinator are killed and stopped: it continues, and its bits stay the same. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import {
  exmix,
  finalDigest,
  killWorkers,
  logged as loggedIn,
  readLog,
  startExmix,
  temporaryFolder,
  TINY,
} from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const run = join(folder, 'elastic');

type Fields = Record<string, unknown>;

const logged = (from: number, matches: (record: Fields) => boolean, what: string): Promise<number> =>
  loggedIn(run, from, matches, what);

const isFormed = (worldSize: number) => (record: Fields) =>
  record['msg'] === 'generation formed' && record['worldSize'] === worldSize;
const isCommitted = (record: Fields): boolean => record['msg'] === 'step committed';

function pidOf(workerId: string): number {
  const { process } = JSON.parse(readFileSync(join(run, 'workers', `${workerId}.json`), 'utf8')) as {
    process: { pid: number };
  };
  return process.pid;
}

/** A failing test leaves workers behind. */
after(() => killWorkers(run));

describe('an elastic run', () => {
  test('continues after workers were killed and stopped and the coordinator was killed, with the bits of an undisturbed run', async () => {
    const command = ['train', '--config', TINY, '--run-dir', run, '--workers', '3', '--steps', '100000'];
    const args = [...command, '--set', 'checkpoint.everySteps=100000'];
    const first = startExmix(args, home);
    await first.printed(/run opened/u);
    let at = await logged(0, isFormed(3), 'a generation of three workers');
    at = await logged(at, isCommitted, 'a step');

    process.kill(pidOf('local-1'), 'SIGKILL');
    at = await logged(at, isFormed(2), 'a generation of two workers');
    at = await logged(at, isCommitted, 'a step of two workers');
    at = await logged(at, isFormed(3), 'the killed worker was restarted and has joined');

    const stopped = pidOf('local-2');
    process.kill(stopped, 'SIGSTOP');
    at = await logged(at, isFormed(2), 'a generation without the stopped worker');
    at = await logged(at, isFormed(3), 'the stopped worker was killed and restarted, and has joined');
    assert.notEqual(pidOf('local-2'), stopped);

    first.child.kill('SIGKILL');
    await first.ended;
    const before = readLog(run).findLast(isCommitted)!;
    const second = startExmix(args, home);
    at = await logged(
      at,
      (record) => record['msg'] === 'run opened' && record['epoch'] === 2,
      'the second coordinator',
    );
    assert.ok(Number(readLog(run)[at]!['step']) >= Number(before['step']), 'it continues at the last committed step');
    for (const workerId of ['local-0', 'local-1', 'local-2'])
      await logged(at, (record) => record['msg'] === 'worker adopted' && record['workerId'] === workerId, workerId);
    at = await logged(at, isFormed(3), 'the workers have joined the second coordinator');
    await logged(at, isCommitted, 'a step of the second coordinator');
    second.child.kill('SIGTERM');
    assert.equal((await second.ended).code, 130);

    const steps = String(readLog(run).findLast(isCommitted)!['step']);
    const straight = join(folder, 'straight');
    const alone = await exmix(
      ['train', '--config', TINY, '--run-dir', straight, '--workers', '2', '--steps', steps],
      home,
    );
    assert.equal(alone.code, 0, alone.stdout + alone.stderr);
    assert.equal(finalDigest(run), finalDigest(straight));
    const audit = await exmix(['ledger', 'audit', run], home);
    assert.equal(audit.code, 0, audit.stdout + audit.stderr);
  });
});
