/** A run over two hosts, with no address given but that of the coordinator. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
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
import { createTwoHosts } from './host-namespaces.ts';

const hosts = createTwoHosts();
const folder = temporaryFolder();
const home = join(folder, 'home');
const tokenFile = join(folder, 'token');
writeFileSync(tokenFile, 'a-token-of-the-test-of-two-hosts');

describe('a run over two hosts', { skip: typeof hosts === 'string' ? hosts : false }, () => {
  const [here, there] = typeof hosts === 'string' ? [] : hosts;

  before(async () => {
    const { code, stdout, stderr } = await exmix(['prepare', '--mixture', 'deploy/demo/mixture.yaml'], home);
    assert.equal(code, 0, stdout + stderr);
  });

  function startCoordinator(run: string, more: readonly string[]): RunningExmix {
    const place = ['--config', TINY, '--run-dir', run, '--token-file', tokenFile];
    return startExmix(['coordinator', ...place, '--listen', '0.0.0.0', ...more], home, { wrapper: here!.prefix });
  }

  function startWorker(id: string, port: string, host: { prefix: readonly string[] }, more: readonly string[] = []) {
    const url = `ws://${here!.address}:${port}`;
    return startExmix(['worker', '--url', url, '--id', id, '--token-file', tokenFile, ...more], home, {
      wrapper: host.prefix,
    });
  }

  const announced = (run: string): URL =>
    new URL((JSON.parse(readFileSync(join(run, 'coordinator.json'), 'utf8')) as { url: string }).url);

  test('trains with workers that were given nothing but the URL, and `exmix status` answers on both hosts', async () => {
    const run = join(folder, 'two');
    const coordinator = startCoordinator(run, ['--min-workers', '2', '--steps', '40']);
    await coordinator.printed(/coordinator listens/u);
    const { hostname, port } = announced(run);
    assert.equal(hostname, here!.address, 'all addresses are never announced as such');
    const workers = [startWorker('w0', port, here!), startWorker('w1', port, there!)];
    await coordinator.printed(/step 1\//u);
    for (const host of [here!, there!]) {
      const status = await exmix(['status', run, '--json'], home, host.prefix);
      assert.equal(status.code, 0, status.stderr);
      const { phase } = JSON.parse(status.stdout) as { phase: string };
      assert.ok(['training', 'ending', 'finished'].includes(phase), phase);
    }
    for (const running of [coordinator, ...workers]) {
      const { code, stdout, stderr } = await running.ended;
      assert.equal(code, 0, stdout + stderr);
    }
    const alone = join(folder, 'alone');
    const { code, stdout, stderr } = await exmix(
      ['train', '--config', TINY, '--run-dir', alone, '--workers', '1', '--steps', '40'],
      home,
    );
    assert.equal(code, 0, stdout + stderr);
    assert.equal(finalDigest(run), finalDigest(alone));
    assert.deepEqual(
      readLog(run).filter(({ msg }) => msg === 'generation ended'),
      [],
    );
  });

  test('refuses a loopback address of a worker on another host, with the cure, and trains without it', async () => {
    const run = join(folder, 'loopback');
    const coordinator = startCoordinator(run, ['--steps', '3']);
    await coordinator.printed(/coordinator listens/u);
    const { port } = announced(run);
    const refused = await startWorker('w1', port, there!, ['--listen', '127.0.0.1']).ended;
    assert.equal(refused.code, 5, refused.stdout + refused.stderr);
    assert.match(
      refused.stderr,
      /JOIN_REFUSED: other hosts cannot reach a data port at 127\.0\.0\.1: start this worker without --listen and --advertise/u,
    );
    const worker = startWorker('w0', port, here!);
    const { code, stdout, stderr } = await coordinator.ended;
    assert.equal(code, 0, stdout + stderr);
    assert.equal((await worker.ended).code, 0);
  });

  test('`exmix status` on the other host does not call a run dead whose coordinator it cannot reach', async () => {
    const run = join(folder, 'unreached');
    const more = ['--advertise', '127.0.0.1', '--steps', '100000'];
    const coordinator = startCoordinator(run, more);
    await coordinator.printed(/coordinator listens/u);
    const worker = startWorker('w0', announced(run).port, here!);
    await coordinator.printed(/step 1\//u);
    const status = await exmix(['status', run], home, there!.prefix);
    assert.equal(status.code, 0, status.stderr);
    assert.match(status.stdout, /phase +not reached/u);
    assert.doesNotMatch(status.stdout, /not running/u);
    coordinator.child.kill('SIGKILL');
    await coordinator.ended;
    worker.child.kill('SIGKILL');
    await worker.ended;
    const dead = await exmix(['status', run], home, there!.prefix);
    assert.match(dead.stdout, /phase +not running/u);
  });

  test('a worker that does not reach another one is tried beside the run until it does, and then joins', async () => {
    const run = join(folder, 'cut');
    const dataPort = 5100;
    const sets = ['cluster.connectTimeoutMs=3000', 'checkpoint.everySteps=100000'].flatMap((set) => ['--set', set]);
    const coordinator = startCoordinator(run, ['--steps', '1000000', ...sets]);
    await coordinator.printed(/coordinator listens/u);
    const { port } = announced(run);
    const near = startWorker('w0', port, here!, ['--port', String(dataPort)]);
    await coordinator.printed(/step 1\//u);
    // One direction is enough: the other worker's frames to it still come.
    const mend = there!.cutOff(here!.address, dataPort);
    const far = startWorker('w1', port, there!);

    const isOf =
      (msg: string) =>
      (record: LogRecord): boolean =>
        record.msg === msg && record['workerId'] === 'w1';
    const leftOut = await logged(run, 0, isOf('worker left out'), 'w1 is left out');
    const onTrial = await logged(run, leftOut, isOf('worker on trial'), 'its links are tried');
    const again = await logged(run, onTrial, isOf('worker left out'), 'its links do not work');
    mend();
    const passed = await logged(run, again, isOf('worker passed its link trial'), 'its links work');
    const joined = await logged(
      run,
      passed,
      ({ msg, members }) => msg === 'generation formed' && (members as string[]).includes('w1'),
      'it joins',
    );
    const records = readLog(run);
    assert.match(String(records[again]!['reason']), /^link trial 1: w1: no link to w0 at ws:\/\/198\.18\.77\.1:5100 /u);
    assert.equal(records[again]!['forMs'], 2 * Number(records[leftOut]!['forMs']));
    const between = (from: number, to: number, msg: string): number =>
      records.slice(from, to).filter((record) => record.msg === msg).length;
    assert.ok(between(onTrial, again, 'step committed') > 0, 'the run trains during the trial');
    assert.equal(between(leftOut, joined, 'generation ended'), 0);
    assert.equal(between(leftOut + 1, passed, 'generation formed'), 1, 'that without w1');

    coordinator.child.kill('SIGTERM');
    for (const running of [coordinator, near, far]) {
      const { code, stdout, stderr } = await running.ended;
      assert.equal(code, 130, stdout + stderr);
    }
  });
});
