/** Coordinators of one run folder on "hosts" and in "containers" of their own: real processes in UTS and PID namespaces. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { readLog, startExmix, temporaryFolder, TINY, type RunningExmix } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const can = (...flags: readonly string[]): boolean => spawnSync('unshare', [...flags, 'true']).status === 0;
const ON_OTHER_HOST = ['unshare', '--uts', 'sh', '-c', 'hostname other-host && exec "$@"', 'sh'];
const IN_CONTAINER = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];

const over: (() => void)[] = [];
after(() => {
  for (const end of over) end();
});

/** A coordinator that waits for workers. */
function start(run: string, wrapper: readonly string[] = []): RunningExmix {
  const args = ['coordinator', '--config', TINY, '--run-dir', run, '--set', 'cluster.rendezvousTimeoutMs=480000'];
  const started = startExmix(args, home, { wrapper });
  over.push(() => started.child.kill('SIGKILL'));
  return started;
}

/** Makes the lock older, so that the test does not wait for a whole lease. */
function age(run: string, ms: number): void {
  const path = join(run, 'lock');
  const then = new Date(statSync(path).mtimeMs - ms);
  utimesSync(path, then, then);
}

/** The process that `unshare --fork` has started. */
function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
}

const ownerOf = (run: string): string => readFileSync(join(run, 'lock'), 'utf8');

describe('the lock of a run folder', () => {
  test(
    'a coordinator that is started on another host right after a SIGKILL waits for the end of the lease, says until when, and continues the run',
    { skip: can('--uts') ? false : 'needs the right to set a host name (unshare --uts)' },
    async () => {
      const run = join(folder, 'hosts');
      const first = start(run, ON_OTHER_HOST);
      await first.printed(/coordinator listens/u);
      first.child.kill('SIGKILL');
      await first.ended;
      age(run, 50_000);
      const second = start(run);
      await second.printed(/waiting for the run lock.*on other-host.*until.*\d{4}-\d\d-\d\dT/su);
      await second.printed(/coordinator listens/u);
      second.child.kill('SIGTERM');
      const { code, stdout, stderr } = await second.ended;
      assert.equal(code, 130, stdout + stderr);
      const notes = readLog(run).filter(({ msg }) => msg === 'run folder');
      assert.match(
        String(notes[0]?.['reason']),
        /took over the lock of process \d+ on other-host.*not renewed for 6\d s/u,
      );
      assert.ok(!existsSync(join(run, 'lock')));
    },
  );

  test(
    'a coordinator in another container with the same host name does not take over a live lock; when the owner is killed it does, after the lease',
    { skip: can('--pid', '--fork', '--mount-proc') ? false : 'needs PID namespaces (unshare --pid)' },
    async () => {
      const run = join(folder, 'containers');
      const first = start(run, IN_CONTAINER);
      await first.printed(/coordinator listens/u);
      const before = ownerOf(run);
      const impatient = start(run, IN_CONTAINER);
      await impatient.printed(/waiting for the run lock/u);
      process.kill(childOf(impatient.child.pid!), 'SIGTERM');
      assert.equal((await impatient.ended).code, 130);
      assert.equal(ownerOf(run), before);

      const second = start(run, IN_CONTAINER);
      await second.printed(/waiting for the run lock/u);
      assert.equal(ownerOf(run), before, 'it waits, and the first one keeps its lock');
      first.child.kill('SIGKILL');
      await first.ended;
      age(run, 50_000);
      await second.printed(/coordinator listens/u);
      assert.notEqual(ownerOf(run), before);
      process.kill(childOf(second.child.pid!), 'SIGTERM');
      assert.equal((await second.ended).code, 130);
    },
  );
});
