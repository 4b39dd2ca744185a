/** Real processes at the rendezvous: too few workers are left, one of them is not like the others, or two have the same id. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { LogRecord } from '../shared/logger.ts';
import {
  exmix,
  finalDigest,
  logged,
  readLog,
  startExmix,
  temporaryFolder,
  TINY,
  type RunningExmix,
} from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const tokenFile = join(folder, 'token');
writeFileSync(tokenFile, 'a-token-of-the-rendezvous-test');
/** Must be longer than two workers need to load, and is waited for in each test. */
const RENDEZVOUS_MS = 60_000;

/** A coordinator of two workers, which ends at the timeout of the rendezvous. */
function startCoordinator(run: string): RunningExmix {
  const settings = [`cluster.rendezvousTimeoutMs=${RENDEZVOUS_MS}`, 'checkpoint.everySteps=100000'];
  const sets = settings.flatMap((setting) => ['--set', setting]);
  const place = ['--config', TINY, '--run-dir', run, '--steps', '100000', '--token-file', tokenFile];
  return startExmix(['coordinator', ...place, '--min-workers', '2', ...sets], home);
}

function startWorker(run: string, id: string, more: readonly string[] = []): RunningExmix {
  const { url } = JSON.parse(readFileSync(join(run, 'coordinator.json'), 'utf8')) as { url: string };
  return startExmix(['worker', '--url', url, '--id', id, '--token-file', tokenFile, ...more], home);
}

/** The step of the only checkpoint, which is the last committed one; a run resumed from it has the bits of an undisturbed one. */
async function checkSaved(run: string): Promise<void> {
  const committed = readLog(run).findLast(({ msg }) => msg === 'step committed')!;
  const step = Number(committed['step']);
  assert.deepEqual(readdirSync(join(run, 'checkpoints')), [`step-${step}`]);
  const steps = ['--workers', '1', '--steps', String(step + 2), '--set', 'cluster.minWorkers=1'];
  const resumed = await exmix(['train', '--resume', run, ...steps], home);
  assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
  const straight = `${run}-straight`;
  const alone = await exmix(['train', '--config', TINY, '--run-dir', straight, ...steps], home);
  assert.equal(alone.code, 0, alone.stdout + alone.stderr);
  assert.equal(finalDigest(run), finalDigest(straight));
}

describe('a run that loses a worker for good, and needs all', { concurrency: true }, () => {
  test('ends at the timeout of the rendezvous, after the worker that is left has saved', async () => {
    const run = join(folder, 'lost');
    const coordinator = startCoordinator(run);
    await coordinator.printed(/coordinator listens/u);
    const [survivor, lost] = ['w0', 'w1'].map((id) => startWorker(run, id));
    await coordinator.printed(/step 10\//u);
    lost!.child.kill('SIGKILL');
    const { code, stderr, stdout } = await coordinator.ended;
    assert.equal(code, 4, stdout + stderr);
    assert.match(stderr, /RENDEZVOUS_TIMEOUT: after 60 s 1 of 2 workers joined/u);
    const left = await survivor!.ended;
    assert.doesNotMatch(left.stdout + left.stderr, /MESSAGE_INVALID/u);
    await checkSaved(run);
  });

  test('and whose coordinator was killed as well: the next coordinator has the worker that is left save', async () => {
    const run = join(folder, 'restarted');
    const first = startCoordinator(run);
    await first.printed(/coordinator listens/u);
    const [survivor, lost] = ['w0', 'w1'].map((id) => startWorker(run, id));
    await first.printed(/step 10\//u);
    first.child.kill('SIGKILL');
    lost!.child.kill('SIGKILL');
    await Promise.all([first.ended, lost!.ended]);
    const second = startCoordinator(run);
    const { code, stderr, stdout } = await second.ended;
    assert.equal(code, 4, stdout + stderr);
    assert.match(stderr, /RENDEZVOUS_TIMEOUT/u);
    const left = await survivor!.ended;
    assert.doesNotMatch(left.stdout + left.stderr, /MESSAGE_INVALID/u);
    await checkSaved(run);
  });
});

describe('workers with different engines, before the first step', () => {
  test('the odd one is refused with a status of its own, and the run trains with the others', async () => {
    const run = join(folder, 'odd');
    const place = ['--config', TINY, '--run-dir', run, '--token-file', tokenFile, '--steps', '3'];
    const coordinator = startExmix(['coordinator', ...place, '--set', 'cluster.startWorkers=3'], home);
    await coordinator.printed(/coordinator listens/u);
    const odd = startWorker(run, 'a', ['--engine', 'cpu']);
    const others = ['b', 'c'].map((id) => startWorker(run, id));
    const { code, stdout, stderr } = await odd.ended;
    assert.equal(code, 5, stdout + stderr);
    assert.match(stderr, /JOIN_REFUSED: other engine than the run: plain JavaScript .* in place of WebAssembly/u);
    others.push(startWorker(run, 'd'));
    for (const running of [coordinator, ...others]) {
      const ended = await running.ended;
      assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    }
    const formed = readLog(run).filter(({ msg }) => msg === 'generation formed');
    assert.deepEqual(formed[0]?.['members'], ['b', 'c', 'd']);
    const straight = `${run}-straight`;
    const steps = ['--workers', '1', '--steps', '3'];
    const alone = await exmix(['train', '--config', TINY, '--run-dir', straight, ...steps], home);
    assert.equal(alone.code, 0, alone.stdout + alone.stderr);
    assert.equal(finalDigest(run), finalDigest(straight));
  });
});

describe('a second worker with the id of a live one', () => {
  test('is refused while the first one answers, and gets the id when the first one stands still', async () => {
    const run = join(folder, 'same-id');
    const place = ['--config', TINY, '--run-dir', run, '--token-file', tokenFile, '--steps', '100000'];
    // The ping has 20 s: it alone frees the id.
    const more = ['--min-workers', '2', '--set', 'cluster.heartbeatTimeoutMs=120000'];
    const coordinator = startExmix(['coordinator', ...place, ...more], home);
    await coordinator.printed(/coordinator listens/u);
    const [first, other] = ['w0', 'w1'].map((id) => startWorker(run, id)) as [RunningExmix, RunningExmix];
    await coordinator.printed(/step 1\//u);

    const refused = await startWorker(run, 'w0').ended;
    assert.equal(refused.code, 5, refused.stdout + refused.stderr);
    assert.match(refused.stderr, /JOIN_REFUSED: the id w0 is in use on .+: give each worker its own --id/u);
    assert.deepEqual([first.child.exitCode, other.child.exitCode], [null, null]);

    first.child.kill('SIGSTOP');
    const second = startWorker(run, 'w0');
    const isOfSecond = (record: LogRecord): boolean =>
      record.msg === 'worker joined' && record['workerId'] === 'w0' && record['pid'] === second.child.pid;
    const joined = await logged(run, 0, isOfSecond, 'the second worker joins');
    await logged(
      run,
      joined,
      ({ msg, members }) => msg === 'generation formed' && (members as string[]).includes('w0'),
      'the run goes on with it',
    );
    first.child.kill('SIGCONT');
    const replaced = await first.ended;
    assert.equal(replaced.code, 5, replaced.stdout + replaced.stderr);
    assert.match(replaced.stderr, /JOIN_REFUSED: .* w0 /u);

    coordinator.child.kill('SIGTERM');
    for (const running of [coordinator, second, other]) {
      const { code, stdout, stderr } = await running.ended;
      assert.equal(code, 130, stdout + stderr);
    }
    const left = readLog(run).find(({ msg, workerId }) => msg === 'worker left' && workerId === 'w0');
    assert.match(String(left?.['reason']), /was dropped: another worker with the id w0 has joined/u);
  });
});
