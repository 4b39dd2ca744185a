/** Steers a run of real processes: rates change at the announced step, and a killed run resumes with the same bits. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { exmix, killWorkers, readLog, startExmix, temporaryFolder, TINY } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const run = join(folder, 'run');
const fork = join(folder, 'fork');

interface Report {
  readonly step: number;
  readonly rateChanges: readonly { readonly firstStep: number }[];
  readonly tasks: readonly {
    name: string;
    plannedShare: number;
    actualShare: number;
    loss: number | null;
    draws: number;
  }[];
}

async function show(path: string): Promise<Report> {
  const { code, stdout, stderr } = await exmix(['mixture', 'show', path, '--json'], home);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as Report;
}

/** Step → gradient digest of each of its commits. */
function digestsOf(path: string): Map<number, string[]> {
  const digests = new Map<number, string[]>();
  for (const { msg, ...fields } of readLog(path)) {
    if (msg !== 'step committed') continue;
    const step = Number(fields['step']);
    digests.set(step, [...(digests.get(step) ?? []), String(fields['gradDigest'])]);
  }
  return digests;
}

describe('exmix mixture set and show', () => {
  test('rates change at the announced step; killed and resumed, or forked, the run has the same bits', async (context) => {
    // Keep every checkpoint: the run may commit many steps before it is killed.
    const settings = ['--set', 'mixture.windowDraws=128', '--set', 'checkpoint.keepLast=1000'];
    const args = ['train', '--config', TINY, '--run-dir', run, '--workers', '1', '--steps', '100000', ...settings];
    const running = startExmix(args, home);
    context.after(() => running.child.kill('SIGKILL'));
    await running.printed(/step 1\//u);
    const wrong = await exmix(['mixture', 'set', run, 'country_qaa=0'], home);
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /NAME_UNKNOWN: .*"country_qaa"; nearest: country_qa/u);
    for (const setting of ['country_qa=x', 'country_qa=0%', 'country_qa=100%', 'country_qa=x2%', 'denoisingRatio=x2']) {
      const { code, stderr } = await exmix(['mixture', 'set', run, setting], home);
      assert.deepEqual([code, stderr.includes('CONFIG_INVALID: mixture set: expected ')], [2, true], stderr);
    }
    const set = await exmix(
      ['mixture', 'set', run, 'country_qa=0', 'denoisingRatio=1', '--json', '--reason', 'test'],
      home,
    );
    assert.equal(set.code, 0, set.stderr);
    const { firstStep } = JSON.parse(set.stdout) as { firstStep: number };

    // By then a later checkpoint is published, and the steps after it are lost with the coordinator.
    const enough = firstStep + 8;
    const tenSteps = Array.from({ length: 10 }, (_, i) => enough + i); // each tenth step is printed
    await running.printed(new RegExp(`step (${tenSteps.join('|')})/`, 'u'));
    const live = await show(run);
    assert.ok(live.step >= enough && live.rateChanges[0]?.firstStep === firstStep);
    const denoising = live.tasks.find(({ name }) => name.includes('denois'));
    assert.equal(denoising?.plannedShare, 0.5);
    assert.equal(live.tasks.find(({ name }) => name === 'country_qa')?.plannedShare, 0);
    assert.ok(live.tasks.some(({ loss }) => loss !== null && loss > 0));
    assert.ok(Math.abs(live.tasks.reduce((sum, { actualShare }) => sum + actualShare, 0) - 1) < 1e-9);
    // As from another host: by URL and token.
    const { url, token } = JSON.parse(readFileSync(join(run, 'coordinator.json'), 'utf8')) as {
      url: string;
      token: string;
    };
    const tokenFile = join(folder, 'token');
    writeFileSync(tokenFile, token);
    const remote = await exmix(['mixture', 'show', url, '--token-file', tokenFile], home);
    assert.equal(remote.code, 0, remote.stderr);
    writeFileSync(tokenFile, 'another-token-of-22-bytes');
    const stranger = await exmix(['mixture', 'set', url, 'country_qa=9', '--token-file', tokenFile], home);
    assert.match(stranger.stderr, /AUTH_FAILED/u);
    running.child.kill('SIGKILL');
    await running.ended;
    killWorkers(run); // without their state, the run goes back to its newest checkpoint

    const before = digestsOf(run);
    const steps = Math.max(...before.keys()) + 6;
    const resume = (path: string, ...more: string[]) =>
      exmix(['train', '--resume', path, '--workers', '2', '--steps', String(steps), ...more], home);
    const resumed = await resume(run);
    assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
    const after = digestsOf(run);
    const twice = [...after.values()].filter((digests) => digests.length > 1);
    assert.ok(twice.length > 0, 'steps after the last checkpoint were trained again');
    for (const digests of twice) assert.equal(new Set(digests).size, 1);

    // A checkpoint that was saved before the change took effect records the change.
    const published = readLog(run).filter(({ msg }) => msg === 'checkpoint published');
    const ahead = published.findLast(({ msg, ...fields }) => msg !== '' && Number(fields['step']) < firstStep + 4);
    const path = String(ahead?.['path']);
    assert.ok(path.includes('step-'));
    const forked = await resume(path, '--run-dir', fork);
    assert.equal(forked.code, 0, forked.stdout + forked.stderr);
    const forkedDigests = digestsOf(fork);
    assert.ok(forkedDigests.size > 0, 'the fork has trained');
    for (const [step, digests] of forkedDigests)
      assert.deepEqual(digests, after.get(step)!.slice(0, 1), `step ${step}`);

    const over = await show(run);
    assert.deepEqual([over.step, over.rateChanges.length], [steps, 1]);
    assert.ok(over.tasks.some(({ loss }) => loss !== null));
    const table = await exmix(['mixture', 'show', run], home);
    assert.match(table.stdout, /^task +examples +% planned +% actual +draws +passes +loss/mu);
    assert.match(table.stdout, new RegExp(`rates changed at step ${firstStep}`, 'u'));
    const late = await exmix(['mixture', 'set', run, 'country_qa=5'], home);
    assert.equal(late.code, 4);
    assert.match(late.stderr, /CONNECT_FAILED: no coordinator answers/u);
  });

  test('other settings of the mixture are rejected on resume unless they are confirmed', async () => {
    const resume = ['train', '--resume', run, '--workers', '1', '--set', 'mixture.rateCap=50'];
    const steps = ['--steps', String(Math.max(...digestsOf(run).keys()) + 4)];
    const refused = await exmix([...resume, ...steps], home);
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /CHECKPOINT_MISMATCH: .*mixture\.rateCap: 300000 → 50.*--allow-mixture-change/u);
    const confirmed = await exmix([...resume, ...steps, '--allow-mixture-change'], home);
    assert.equal(confirmed.code, 0, confirmed.stdout + confirmed.stderr);
    assert.ok(
      readLog(run).some(({ msg, ...fields }) => msg === 'run folder' && /has changed/u.test(String(fields['reason']))),
    );
    const audit = await exmix(['ledger', 'audit', run], home);
    assert.equal(audit.code, 0, audit.stdout + audit.stderr);
  });
});
