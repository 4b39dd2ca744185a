/** `exmix evaluate --follow` with real processes: results are those of `exmix evaluate` alone, and retention takes nothing that is read. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, watch } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { exmix, finalDigest, startExmix, temporaryFolder, TINY, type RunningExmix } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const runOf = (name: string): string => join(folder, name);
const STEPS = [1, 2, 3, 4, 5, 6];
/** A validation needs a checkpoint, so each step has one. Of a run with `keepLast` 1 only the newest one stays. */
const train = (name: string, keepLast: number): string[] => [
  ...['train', '--config', TINY, '--run-dir', runOf(name), '--workers', '1', '--steps', String(STEPS.length)],
  ...['--set', 'checkpoint.everySteps=1', '--set', `checkpoint.keepLast=${keepLast}`],
  ...['--set', 'evaluation={everySteps: 1, tasks: [wn_entails], maxExamples: 2, lossOnly: true}'],
];
const evaluate = (place: string, ...more: readonly string[]): string[] => [
  ...['evaluate', place, '--tasks', 'wn_entails', '--max-examples', '12', '--engine', 'wasm'],
  ...['--batch-tokens', '200', '--max-new-tokens', '6', ...more],
];

/** results.json and predictions, by name. */
function outcomeOf(results: string): Record<string, string> {
  const files = ['results.json', 'predictions/wn_entails.jsonl'];
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(results, name), 'utf8')]));
}

/** The steps with results, each compared with those of `exmix evaluate` on the same checkpoint. */
function comparedSteps(name: string): number[] {
  const results = join(runOf(name), 'evaluation');
  const steps = STEPS.filter((step) => existsSync(join(results, `step-${step}`, 'results.json')));
  for (const step of steps)
    assert.deepEqual(outcomeOf(join(results, `step-${step}`)), outcomeOf(join(runOf('kept'), 'evaluation', `step-${step}`)), `step ${step}`); // prettier-ignore
  return steps;
}

/** Steps that standard error says were skipped. */
function skippedSteps(stderr: string): number[] {
  const lines = stderr.split('\n').filter((line) => /^steps? .* skipped: /u.test(line));
  return lines.flatMap((line) => [...line.split(' skipped')[0]!.matchAll(/\d+/gu)].map(([step]) => Number(step)));
}

/** Resolves when a batch of any step has its result on disk. */
async function firstResult(name: string, follower: RunningExmix): Promise<void> {
  const results = join(runOf(name), 'evaluation');
  await mkdir(results, { recursive: true });
  const isThere = (): boolean =>
    readdirSync(results, { recursive: true, withFileTypes: true }).some(
      (entry) =>
        entry.isFile() &&
        entry.parentPath.endsWith('batches') &&
        readFileSync(join(entry.parentPath, entry.name), 'utf8').split('\n').length > 2,
    );
  const found = new Promise<void>((resolve) => {
    const watcher = watch(results, { recursive: true }, () => {
      if (!isThere()) return;
      watcher.close();
      resolve();
    });
    if (isThere()) resolve();
  });
  await Promise.race([found, follower.ended.then(({ stderr }) => assert.fail(`it ended before a result: ${stderr}`))]);
}

before(async () => {
  const kept = await exmix(train('kept', 10), home);
  assert.equal(kept.code, 0, kept.stderr);
  for (const step of STEPS) {
    const alone = await exmix(evaluate(join(runOf('kept'), 'checkpoints', `step-${step}`)), home);
    assert.equal(alone.code, 0, alone.stderr);
  }
});

describe('exmix evaluate --follow', () => {
  test('from before the run begins to its end: every checkpoint is evaluated, or said to be skipped; its bits are those of the run alone', async () => {
    const follower = startExmix(evaluate('--follow', runOf('live')), home);
    const trained = await exmix(train('live', 1), home);
    assert.equal(trained.code, 0, trained.stderr);
    const { code, stdout, stderr } = await follower.ended;
    assert.equal(code, 0, stderr);
    assert.equal(finalDigest(runOf('live')), finalDigest(runOf('kept')));
    const steps = comparedSteps('live');
    assert.equal(steps.at(-1), STEPS.at(-1), stderr);
    assert.deepEqual([...steps, ...skippedSteps(stderr)].sort(), STEPS, stderr);
    assert.deepEqual([...stdout.matchAll(/^step (\d+)$/gmu)].map(([, step]) => Number(step)).sort(), steps);
    assert.match(stderr, /the run has finished at step 6/u);
    assert.deepEqual(readdirSync(join(runOf('live'), 'checkpoints')), ['step-6'], 'no pin is left');
  });

  test('killed and started again in the middle it goes on, and a finished run is not evaluated again', async () => {
    const training = startExmix(train('killed', 1), home);
    await training.printed(/run opened/u);
    const killed = startExmix(evaluate('--follow', runOf('killed'), '--workers', '2'), home);
    await firstResult('killed', killed);
    killed.child.kill('SIGKILL');
    await killed.ended;
    const again = await exmix(evaluate('--follow', runOf('killed'), '--workers', '2'), home);
    assert.equal(again.code, 0, again.stderr);
    assert.equal((await training.ended).code, 0);
    const steps = comparedSteps('killed');
    assert.equal(steps.at(-1), STEPS.at(-1));
    assert.deepEqual(
      readdirSync(join(runOf('killed'), 'checkpoints')),
      ['step-6'],
      'the pin of the killed one is gone',
    );

    const third = await exmix(evaluate('--follow', runOf('killed')), home);
    assert.equal(third.code, 0, third.stderr);
    assert.match(third.stderr, /^steps? (?:\d.* )?6 skipped: already evaluated$/mu);
    assert.deepEqual(skippedSteps(third.stderr).sort(), STEPS);
    assert.doesNotMatch(third.stdout, /^step/mu);
  });

  test('SIGTERM stops it while it evaluates; its results stay, and the same command goes on to all checkpoints that are there', async () => {
    const follower = startExmix(evaluate('--follow', runOf('kept'), '--out', join(folder, 'drained')), home);
    await follower.printed(/^step 6$/mu);
    follower.child.kill('SIGTERM');
    const { code, stderr } = await follower.ended;
    assert.equal(code, 130, stderr);
    assert.match(stderr, /the same command goes on/u);
    assert.deepEqual(readdirSync(join(runOf('kept'), 'checkpoints')).length, STEPS.length, 'no pin is left');
    const again = await exmix(evaluate('--follow', runOf('kept'), '--out', join(folder, 'drained')), home);
    assert.equal(again.code, 0, again.stderr);
    for (const step of STEPS)
      assert.deepEqual(outcomeOf(join(folder, 'drained', `step-${step}`)), outcomeOf(join(runOf('kept'), 'evaluation', `step-${step}`))); // prettier-ignore
  });

  test('without workers of this host it is refused', async () => {
    const { code, stderr } = await exmix(evaluate('--follow', runOf('kept'), '--workers', '0'), home);
    assert.deepEqual([code, /--workers: expected a whole number above 0/u.test(stderr)], [2, true], stderr);
  });
});
