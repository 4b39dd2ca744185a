/** Trains the tiny model in real processes: same bits for any number of workers, resumed or not; exit statuses; fields of the log. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { exmix, finalDigest, readLog, startExmix, temporaryFolder, TINY, type Ended } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const runFolder = (name: string): string => join(folder, name);

/** Trains the tiny model in the run folder of that name. */
async function train(name: string, ...args: string[]): Promise<Ended> {
  const ended = await exmix(['train', '--config', TINY, '--run-dir', runFolder(name), ...args], home);
  assert.equal(ended.code, 0, ended.stdout + ended.stderr);
  return ended;
}

describe('a run of real processes', () => {
  let straight = '';

  before(async () => {
    const { stdout } = await train('straight', '--workers', '1');
    straight = finalDigest(runFolder('straight'));
    assert.ok(stdout.includes(straight), 'the summary shows the digest');
  });

  for (const workers of [2, 3, 4]) {
    test(`${workers} workers train the same bits as one`, async () => {
      await train(`w${workers}`, '--workers', String(workers));
      assert.equal(finalDigest(runFolder(`w${workers}`)), straight);
      const digests = (name: string) =>
        readLog(runFolder(name)).flatMap((record) =>
          record.msg === 'step committed' ? [record['gradDigest'], record['loss']] : [],
        );
      assert.deepEqual(digests(`w${workers}`), digests('straight'));
    });
  }

  test('the same run again has the same bits, and another seed has others', async () => {
    await train('again', '--workers', '2');
    await train('seed', '--workers', '2', '--seed', '8');
    assert.equal(finalDigest(runFolder('again')), straight);
    assert.notEqual(finalDigest(runFolder('seed')), straight);
  });

  test('stock ws links train the same bits as direct ones', async () => {
    await train('message', '--workers', '2', '--set', 'collective.link=message');
    assert.equal(finalDigest(runFolder('message')), straight);
  });

  test('bfloat16 gradients give other bits, the same for 1, 2 and 3 workers and for a replayed step', async () => {
    const digests = [];
    for (const workers of ['1', '2', '3']) {
      await train(`bfloat16-${workers}`, '--workers', workers, '--set', 'training.gradientPrecision=bfloat16');
      digests.push(finalDigest(runFolder(`bfloat16-${workers}`)));
    }
    assert.deepEqual(digests, [digests[0], digests[0], digests[0]]);
    assert.notEqual(digests[0], straight);
    const replay = await exmix(['ledger', 'replay', runFolder('bfloat16-3'), '--step', '6'], home);
    assert.equal(replay.code, 0, replay.stdout + replay.stderr);
    assert.match(replay.stdout, /same: 2 gradients/u);
    const other = await exmix(
      ['train', '--resume', runFolder('bfloat16-2'), '--steps', '9', '--set', 'training.gradientPrecision=float32'],
      home,
    );
    assert.equal(other.code, 2, other.stdout + other.stderr);
    assert.match(other.stderr, /CHECKPOINT_MISMATCH: .*training\.gradientPrecision: "bfloat16" → "float32"/u);
  });

  test('adamw-rms with clipping and decay: the same bits for 1, 2 and 3 workers and for a resumed run, and Adafactor is refused', async () => {
    const settings = [
      'optimizer.kind=adamw-rms',
      'optimizer.weightDecay=0.1',
      'optimizer.maxGradNorm=0.5',
      'schedule={kind: cosine, warmupSteps: 2, totalSteps: 20, peak: 0.02, floor: 0.00001}',
    ].flatMap((setting) => ['--set', setting]);
    const digests = [];
    for (const workers of ['1', '2', '3']) {
      await train(`adamw-${workers}`, '--workers', workers, ...settings);
      digests.push(finalDigest(runFolder(`adamw-${workers}`)));
    }
    await train('adamw-halves', '--workers', '2', '--steps', '5', ...settings);
    const ended = await exmix(['train', '--resume', runFolder('adamw-halves'), '--steps', '8', '--workers', '3'], home);
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    digests.push(finalDigest(runFolder('adamw-halves')));
    assert.deepEqual(new Set(digests).size, 1, digests.join(' '));
    assert.notEqual(digests[0], straight);
    const steps = readLog(runFolder('adamw-1')).filter(({ msg }) => msg === 'step committed');
    for (const { gradNorm, clippedGradNorm } of steps as unknown as Record<string, number>[])
      assert.ok(Math.abs(clippedGradNorm! - Math.min(0.5, gradNorm!)) < 1e-6, `${clippedGradNorm} of ${gradNorm}`);
    assert.ok(
      steps.some((step) => Number(step['gradNorm']) > 0.5),
      'a step was clipped',
    );
    assert.equal(steps[0]!['lr'], 0);
    const other = await exmix(
      ['train', '--resume', runFolder('adamw-2'), '--steps', '9', '--set', 'optimizer.kind=adafactor'],
      home,
    );
    assert.equal(other.code, 2, other.stdout + other.stderr);
    assert.match(other.stderr, /CHECKPOINT_MISMATCH: .*optimizer\.kind: "adamw-rms" → "adafactor"/u);
    const back = await exmix(
      ['train', '--resume', runFolder('straight'), '--steps', '9', '--set', 'optimizer.kind=adamw'],
      home,
    );
    assert.equal(back.code, 2, back.stdout + back.stderr);
    assert.match(back.stderr, /CHECKPOINT_MISMATCH: .*optimizer\.kind: "adafactor" → "adamw"/u);
  });

  test('a run resumed with another number of workers continues in its folder and ends with the bits of an uninterrupted run', async () => {
    await train('halves', '--workers', '2', '--steps', '5');
    const ended = await exmix(['train', '--resume', runFolder('halves'), '--steps', '8', '--workers', '3'], home);
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    assert.equal(finalDigest(runFolder('halves')), straight);
    const steps = readLog(runFolder('halves')).flatMap((record) =>
      record.msg === 'step committed' ? [record['step']] : [],
    );
    assert.deepEqual(steps, [1, 2, 3, 4, 5, 6, 7, 8]);
  });

  test('a single checkpoint is resumed in a new run folder, and the old folder is unchanged', async () => {
    const before = readdirSync(join(runFolder('straight'), 'checkpoints'));
    const checkpoint = join(runFolder('straight'), 'checkpoints', 'step-4');
    await train('fork', '--workers', '1', '--resume', checkpoint);
    assert.equal(finalDigest(runFolder('fork')), straight);
    assert.equal(readLog(runFolder('fork')).find((record) => record.msg === 'step committed')?.['step'], 5);
    assert.deepEqual(readdirSync(join(runFolder('straight'), 'checkpoints')), before);
  });

  test('SIGTERM finishes the step, saves and exits with status 130; the resumed run has the bits of an uninterrupted run', async () => {
    const args = [
      'train',
      '--config',
      TINY,
      '--run-dir',
      runFolder('terminated'),
      '--workers',
      '2',
      '--steps',
      '100000',
    ];
    const run = startExmix(args, home);
    await run.printed(/step 1\//u);
    const status = await exmix(['status', runFolder('terminated'), '--json'], home);
    const view = JSON.parse(status.stdout) as { phase: string; step: number; workers: { rank: number }[] };
    assert.equal(view.phase, 'training', status.stderr);
    assert.ok(view.step >= 1);
    assert.deepEqual(
      view.workers.map(({ rank }) => rank),
      [0, 1],
    );
    run.child.kill('SIGTERM');
    const { code, stdout, stderr } = await run.ended;
    assert.equal(code, 130, stdout + stderr);
    const interrupted = readLog(runFolder('terminated')).at(-1);
    assert.equal(interrupted?.msg, 'run interrupted');
    const step = Number(interrupted['step']);
    assert.ok(existsSync(join(runFolder('terminated'), 'checkpoints', `step-${step}`)));
    const steps = String(step + 2);
    await train('terminated-straight', '--workers', '1', '--steps', steps);
    const resumed = await exmix(
      ['train', '--resume', runFolder('terminated'), '--steps', steps, '--workers', '1'],
      home,
    );
    assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
    assert.equal(finalDigest(runFolder('terminated')), finalDigest(runFolder('terminated-straight')));
  });

  test('status of an ended run comes from its journal', async () => {
    const { stdout, code } = await exmix(['status', runFolder('straight'), '--json'], home);
    assert.equal(code, 0);
    const view = JSON.parse(stdout) as Record<string, unknown>;
    assert.deepEqual([view['phase'], view['step'], view['paramDigest']], ['finished', 8, straight]);
    // The summary that the command printed.
    assert.deepEqual([view['stepsTrained'], view['stepsSkipped'], view['savedStep']], [8, 0, 8]);
    assert.ok(Number(view['tokensPerSecond']) > 0 && Object.keys(view['taskLoss'] as object).length > 5, stdout);
  });

  test('a run that is resumed in its own folder refuses another one', async () => {
    const args = ['train', '--resume', runFolder('straight'), '--run-dir', runFolder('other'), '--steps', '9'];
    const { code, stderr } = await exmix(args, home);
    assert.equal(code, 2);
    assert.match(stderr, /CONFIG_INVALID: --run-dir .*other: a run continues in its own folder, .*straight/u);
    assert.ok(!existsSync(runFolder('other')));
  });

  test('the log has the documented fields', () => {
    const records = readLog(runFolder('straight'));
    const committed = records.find((record) => record.msg === 'step committed');
    const numbers = [
      'step',
      'loss',
      'gradNorm',
      'lr',
      'inputTokens',
      'targetTokens',
      'tokensPerSecond',
      'worldSize',
      'generation',
      'etaSeconds',
    ];
    for (const field of numbers) assert.equal(typeof committed?.[field], 'number', field);
    assert.match(String(committed?.['gradDigest']), /^[0-9a-f]{8}$/u);
    for (const phase of ['feed', 'compute', 'communicate', 'update', 'total'])
      assert.equal(typeof (committed?.['ms'] as Record<string, unknown>)[phase], 'number', phase);
    assert.ok(Object.keys(committed?.['taskLoss'] as object).length > 5);
    const published = records.find((record) => record.msg === 'checkpoint published');
    for (const field of ['step', 'bytes', 'ms']) assert.equal(typeof published?.[field], 'number', field);
    const finished = records.at(-1);
    assert.equal(finished?.msg, 'run finished');
    assert.equal(finished['step'], 8);
    assert.equal(finished['checkpoint'], join(runFolder('straight'), 'checkpoints', 'step-8'));
    assert.equal(finished['paramDigest'], straight);
  });
});
