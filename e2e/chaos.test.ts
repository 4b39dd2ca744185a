/** Runs the real command under every kind of fault: each fault is injected, the run ends, and its bits are those of the undisturbed run. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { ChaosRecord, InjectedFault } from '../cli/chaos/chaos-report.ts';
import { isAlive } from '../shared/process-identity.ts';
import { exmix, finalDigest, readLog, startExmix, temporaryFolder, TINY, type Ended } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const runDir = join(folder, 'run');
const STEPS = 80;
const SPEC = 'kill@8,stop@20,leave@30,coordinator-kill@40,join@50';
const CLUSTER = [
  ...['--set', 'cluster.heartbeatIntervalMs=200', '--set', 'cluster.heartbeatTimeoutMs=1500'],
  ...['--set', 'checkpoint.everySteps=20'],
];
const FAULTS = ['kill', 'stop', 'leave', 'coordinator-kill', 'join'];

function readRecords(run: string): ChaosRecord[] {
  const lines = readFileSync(join(run, 'chaos.jsonl'), 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as ChaosRecord);
}

/** Pids of the workers in the log of a run. */
function pidsOf(run: string): number[] {
  return readLog(run).flatMap(({ msg, pid }) => (msg === 'worker joined' && typeof pid === 'number' ? [pid] : []));
}

describe('a run under chaos', () => {
  let ended: Ended;
  let faults: InjectedFault[] = [];
  let records: ChaosRecord[] = [];

  before(async () => {
    const run = ['train', '--config', TINY, '--run-dir', runDir, '--workers', '3', '--steps', String(STEPS)];
    ended = await exmix([...run, ...CLUSTER, '--chaos', SPEC, '--chaos-seed', '7', '--chaos-verify'], home);
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    records = readRecords(runDir);
    faults = records.filter((record) => record.kind === 'injected');
  });

  test('every fault was injected, and a step was committed after each', () => {
    assert.deepEqual(
      faults.map(({ fault, notInjected }) => [fault, notInjected]),
      FAULTS.map((fault) => [fault, null]),
    );
    const recovered = records.flatMap((record) => (record.kind === 'recovered' ? [record.number] : []));
    assert.deepEqual(
      recovered,
      faults.map(({ number }) => number),
    );
  });

  test('the log shows the effect of each fault', () => {
    const log = readLog(runDir);
    const victim = (name: string): string => faults.find(({ fault }) => fault === name)!.workerId!;
    const has = (what: string, holds: (record: (typeof log)[number]) => boolean): void =>
      assert.ok(log.some(holds), what);
    has(
      'a worker was killed',
      ({ msg, workerId, signal }) => msg === 'worker exited' && workerId === victim('kill') && signal === 'SIGKILL',
    );
    has('a worker left', ({ msg, workerId }) => msg === 'worker left' && workerId === victim('leave'));
    has('a second coordinator resumed', ({ msg, epoch }) => msg === 'run opened' && Number(epoch) >= 2);
    has('a worker joined', ({ msg, workerId }) => msg === 'worker joined' && workerId === victim('join'));
    const stops = faults.filter(({ fault }) => fault === 'stop');
    for (const { number, fault, forMs } of stops) {
      const cost = records.find((record) => record.kind === 'recovered' && record.number === number);
      assert.ok(cost?.kind === 'recovered' && cost.costMs > 400, `${fault} for ${forMs} ms delays the run`);
    }
  });

  test('no process survives the run', () => {
    const pids = pidsOf(runDir);
    assert.ok(pids.length >= 5, `three workers, one restarted and one that joined, found ${pids.length}`);
    assert.deepEqual(pids.filter(isAlive), []);
  });

  test('the bits are those of the undisturbed run, each example came once, and the report states both', () => {
    const verdict = records.at(-1);
    assert.ok(verdict?.kind === 'ended');
    assert.equal(verdict.step, STEPS);
    assert.equal(verdict.numViolations, 0);
    assert.equal(verdict.paramDigest, finalDigest(`${runDir}-undisturbed`));
    assert.equal(verdict.paramDigest, verdict.undisturbedDigest);
    assert.match(ended.stdout, /undisturbed {2}the same bits\n {2}ledger {7}clean/u);
  });
});

test('Ctrl-C continues a stopped worker, ends the run in order, and leaves no process behind', async () => {
  const run = join(folder, 'interrupted');
  const args = ['train', '--config', TINY, '--run-dir', run, '--workers', '2', '--steps', '100000'];
  // With this seed the worker is stopped for more than a minute.
  const chaos = ['--set', 'cluster.heartbeatTimeoutMs=60000', '--chaos', 'stop@2', '--chaos-seed', '1'];
  const running = startExmix([...args, ...chaos], home);
  while (running.child.exitCode === null && !existsSync(join(run, 'chaos.jsonl')))
    await new Promise((resolve) => setTimeout(resolve, 20));
  const startMs = performance.now();
  running.child.kill('SIGINT');
  const { code, stdout, stderr } = await running.ended;
  assert.equal(code, 130, stdout + stderr);
  const [stop] = readRecords(run);
  assert.ok(stop?.kind === 'injected' && stop.fault === 'stop' && stop.notInjected === null && stop.forMs > 60_000);
  assert.ok(performance.now() - startMs < 30_000, 'the end does not wait for the stopped worker');
  assert.equal(readLog(run).at(-1)?.msg, 'run interrupted');
  const pids = pidsOf(run);
  assert.equal(pids.length, 2);
  assert.deepEqual(pids.filter(isAlive), []);
});

describe('wrong flags end with status 2', () => {
  for (const [args, message] of [
    [['--chaos', 'kil=0.1'], /CONFIG_INVALID: --chaos: no fault is called "kil"; did you mean/u],
    [['--chaos-verify'], /CONFIG_INVALID: --chaos-verify: expected --chaos/u],
    [['--chaos', 'kill@3', '--chaos-seed', '-1'], /CONFIG_INVALID: --chaos-seed: expected a whole number/u],
  ] as const)
    test(args.join(' '), async () => {
      const { code, stderr } = await exmix(['train', '--config', TINY, ...args], home);
      assert.equal(code, 2);
      assert.match(stderr, message);
    });
});
