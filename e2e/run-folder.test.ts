/** Workers that do not see the run folder, from the start or from some moment on: real processes, each with mounts of its own. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { exmix, finalDigest, logged, readLog, startExmix, temporaryFolder, TINY } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const canMount = spawnSync('unshare', ['-m', 'true']).status === 0;
const skip = canMount ? false : 'needs the right to mount (unshare -m)';

/** Whether a folder can be seen through a layer that keeps what is written. */
function canOverlay(): boolean {
  const own = temporaryFolder();
  const layers = `lowerdir=${home},upperdir=${own}/upper,workdir=${own}/work`;
  const mount = `mount -t tmpfs none ${own} && mkdir ${own}/upper ${own}/work && mount -t overlay -o ${layers} none ${own}`;
  mkdirSync(home);
  return spawnSync('unshare', ['-m', 'sh', '-c', mount]).status === 0;
}
const skipOverlay = canMount && canOverlay() ? false : 'needs an overlay file system';

const over: (() => void)[] = [];
after(() => {
  for (const end of over) end();
});

/** A coordinator, and a function that starts its workers. */
async function startCoordinator(run: string, steps: number, minWorkers: number) {
  const options = ['--min-workers', String(minWorkers), '--set', 'cluster.rendezvousTimeoutMs=240000'];
  const coordinator = startExmix(
    ['coordinator', '--config', TINY, '--run-dir', run, '--steps', String(steps), ...options],
    home,
  );
  over.push(() => coordinator.child.kill('SIGKILL'));
  await coordinator.printed(/coordinator listens/u);
  const { url, token } = JSON.parse(readFileSync(join(run, 'coordinator.json'), 'utf8')) as {
    url: string;
    token: string;
  };
  const startWorker = (id: string, wrapper: readonly string[] = []) => {
    const worker = startExmix(['worker', '--url', url, '--id', id], home, { wrapper, env: { EXMIX_TOKEN: token } });
    over.push(() => worker.child.kill('SIGKILL'));
    return worker;
  };
  return { coordinator, startWorker };
}

/** Runs a command with mounts of its own. */
const withMounts = (mount: string): readonly string[] => ['unshare', '-m', 'sh', '-c', `${mount} && exec "$@"`, 'sh'];
const steps = 12;

describe('a worker that does not see the run folder', { skip }, () => {
  test('is named and left out before it trains, with its own empty folder of that name; the others train and save', async () => {
    const run = join(folder, 'blind');
    const { coordinator, startWorker } = await startCoordinator(run, steps, 2);
    const blind = startWorker('blind', withMounts(`mount -t tmpfs none ${run} && mkdir ${join(run, 'checkpoints')}`));
    const { code, stderr } = await blind.ended;
    assert.equal(code, 2, stderr);
    assert.match(stderr, /PATH_UNUSABLE.*cannot read .*\/blind\/checkpoints\/\.probe-.*same path/su);
    const others = ['a', 'b'].map((id) => startWorker(id));
    const ended = await coordinator.ended;
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    for (const other of others) assert.equal((await other.ended).code, 0);
    const log = readLog(run);
    const named = log.filter(({ msg }) => msg === 'worker could not get ready');
    assert.deepEqual(
      named.map(({ workerId, code: found }) => [workerId, found]),
      [['blind', 'PATH_UNUSABLE']],
    );
    assert.ok(String(named[0]!['reason']).includes(`on ${hostname()}`), String(named[0]!['reason']));
    assert.deepEqual(
      log.filter(({ msg }) => msg === 'generation formed').map(({ members }) => members),
      [['a', 'b']],
    );
    assert.equal(log.filter(({ msg }) => msg === 'checkpoint published').at(-1)?.['step'], steps);
  });

  test('is named and left out if it has no prepared mixture', async () => {
    const run = join(folder, 'no-mixture');
    const { coordinator, startWorker } = await startCoordinator(run, 2, 1);
    const { code, stderr } = await startWorker('bare', withMounts(`mount -t tmpfs none ${home}`)).ended;
    assert.equal(code, 2, stderr);
    assert.match(stderr, /PATH_UNUSABLE.*cannot read .*mixture\.json \(ENOENT\).*EXMIX_HOME/su);
    startWorker('a');
    assert.equal((await coordinator.ended).code, 0);
    const [named] = readLog(run).filter(({ msg }) => msg === 'worker could not get ready');
    assert.equal(named?.['workerId'], 'bare');
  });

  test(
    'is refused if it reads the files of the coordinator and its own files stay on its host',
    { skip: skipOverlay },
    async () => {
      const run = join(folder, 'overlay');
      const { coordinator, startWorker } = await startCoordinator(run, 2, 1);
      const own = join(folder, 'own');
      mkdirSync(own);
      const layers = `lowerdir=${run},upperdir=${own}/upper,workdir=${own}/work`;
      const mount = `mount -t tmpfs none ${own} && mkdir ${own}/upper ${own}/work && mount -t overlay -o ${layers} none ${run}`;
      const { code, stderr } = await startWorker('overlay', withMounts(mount)).ended;
      assert.notEqual(code, 0);
      assert.match(stderr, /JOIN_REFUSED: it wrote to another folder: its host must have/u);
      const [refused] = readLog(run).filter(({ msg }) => msg === 'worker refused');
      assert.equal(refused?.['workerId'], 'overlay');
      startWorker('a');
      assert.equal((await coordinator.ended).code, 0);
    },
  );

  test('any more is left out of saving and named: training continues, the others save, and the bits are the same', async () => {
    const run = join(folder, 'lost-mount');
    const { coordinator, startWorker } = await startCoordinator(run, 100_000, 2);
    startWorker('a');
    const losing = startWorker('b', withMounts('true'));
    await logged(run, 0, ({ msg }) => msg === 'checkpoint published', 'a checkpoint of both');
    const mounted = spawnSync('nsenter', [
      ...['-t', String(losing.child.pid), '-m', 'mount', '-t', 'tmpfs', 'none'],
      join(run, 'checkpoints'),
    ]);
    assert.equal(mounted.status, 0, String(mounted.stderr));
    const named = await logged(run, 0, ({ msg }) => msg === 'worker left out of saving', 'the worker is named');
    const later = ({ msg, step }: Record<string, unknown>) => msg === 'checkpoint published' && Number(step) > 0;
    const saved = await logged(run, named, later, 'a checkpoint of the other');
    await logged(run, saved, ({ msg }) => msg === 'step committed', 'a step after it');
    coordinator.child.kill('SIGTERM');
    assert.equal((await coordinator.ended).code, 130);
    const log = readLog(run);
    const record = log[named]!;
    assert.deepEqual([record['workerId'], record['host'], record['code']], ['b', hostname(), 'PATH_UNUSABLE']);
    assert.deepEqual(log.filter(({ msg }) => msg === 'generation ended').length, 0);
    const last = Number(log.findLast(({ msg }) => msg === 'step committed')!['step']);
    assert.equal(log.findLast(({ msg }) => msg === 'checkpoint published')!['step'], last);

    const straight = join(folder, 'straight');
    const args = ['train', '--config', TINY, '--run-dir', straight, '--workers', '1', '--steps', String(last)];
    const alone = await exmix(args, home);
    assert.equal(alone.code, 0, alone.stdout + alone.stderr);
    assert.equal(finalDigest(run), finalDigest(straight));
  });
});
