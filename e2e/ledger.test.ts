/** The ledger of whole runs: exactly-once across resumes at other world sizes, a replayed step, and the commands. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { exmix, readLog, startExmix, temporaryFolder, TINY, type Ended } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const run = join(folder, 'run');
const STEPS = 300;

interface Audit {
  readonly numViolations: number;
  readonly violations: readonly { readonly kind: string; readonly what: string; readonly steps: readonly number[] }[];
  readonly tasks: readonly { readonly name: string; readonly numDraws: number; readonly completeEpochs: number }[];
  readonly sessions: readonly { readonly startStep: number; readonly keptStep: number; readonly lastStep: number }[];
}

interface Shown {
  readonly step: number;
  readonly gradDigest: string;
  readonly loss: number;
  readonly tasks: readonly { readonly task: string; readonly targetTokens: number; readonly loss: number }[];
  readonly examples: readonly {
    readonly task: string;
    readonly text?: { readonly inputs: string; readonly targets: string };
  }[];
}

const ledger = (...args: string[]): Promise<Ended> => exmix(['ledger', ...args], home);

async function json<T>(...args: string[]): Promise<T> {
  const { stdout, stderr } = await ledger(...args, '--json');
  assert.notEqual(stdout, '', stderr);
  return JSON.parse(stdout) as T;
}

async function resume(steps: number, workers: number): Promise<void> {
  const ended = await exmix(['train', '--resume', run, '--steps', String(steps), '--workers', String(workers)], home);
  assert.equal(ended.code, 0, ended.stdout + ended.stderr);
}

describe('the ledger of a run', () => {
  before(async () => {
    const settings = ['--set', 'checkpoint.everySteps=40', '--set', 'checkpoint.keepLast=100'];
    const start = [
      'train',
      '--config',
      TINY,
      '--run-dir',
      run,
      '--workers',
      '2',
      '--steps',
      String(STEPS),
      ...settings,
    ];
    const first = startExmix(start, home);
    await first.printed(/step 1\d\d\//u);
    first.child.kill('SIGKILL'); // mid-step: the next session resumes at the last committed step, which the workers hold
    await first.ended;
    await resume(180, 1);
    await resume(230, 3);
    await resume(STEPS, 2);
  });

  test('300 steps in four sessions with 2, 1, 3 and 2 workers, one killed: every example exactly once', async () => {
    const audit = await json<Audit>('audit', run);
    assert.deepEqual(audit.violations, []);
    assert.equal(audit.numViolations, 0);
    assert.equal(audit.sessions.length, 4);
    const [first, second] = audit.sessions;
    assert.equal(first!.lastStep, first!.keptStep, 'no step is repeated');
    assert.equal(second!.startStep, first!.keptStep);
    assert.equal(audit.sessions.at(-1)!.keptStep, STEPS);
    const logged = readLog(run).filter(({ msg }) => msg === 'step committed');
    // A kill between journal and log loses one line of the log.
    assert.ok(logged.length >= STEPS - 1, `${logged.length} steps are logged`);
    assert.equal((await ledger('audit', run)).code, 0);
  });

  test('show agrees with the log, and prints the texts that the model read', async () => {
    const logged = readLog(run).findLast((record) => record.msg === 'step committed' && record['step'] === 250);
    const shown = await json<Shown>('show', run, '--step', '250', '--text');
    assert.deepEqual([shown.gradDigest, shown.loss], [logged?.['gradDigest'], logged?.['loss']]);
    const tokens = Object.fromEntries(shown.tasks.map(({ task, targetTokens }) => [task, targetTokens]));
    assert.deepEqual(tokens, logged?.['taskTokens']);
    for (const { task, loss } of shown.tasks) {
      const expected = (logged?.['taskLoss'] as Record<string, number>)[task]!;
      assert.ok(Math.abs(loss - expected) <= expected / 2 ** 16, task);
    }
    for (const { text } of shown.examples)
      assert.ok(text !== undefined && text.inputs.length > 0 && text.targets.length > 0);
    assert.ok(
      shown.examples.some(({ task, text }) => task === 'text_denoising' && text!.inputs.includes('<extra_id_0>')),
    );
  });

  test('a replayed step has the same gradient', async () => {
    const { stdout, stderr, code } = await ledger('replay', run, '--step', '210');
    assert.equal(code, 0, stdout + stderr);
    assert.match(stdout, /same: \d+ gradients from .*checkpoints\/step-\d+ to step 210 /u);
    const far = await ledger('replay', run, '--step', '239', '--max-steps', '5');
    assert.equal(far.code, 2);
    assert.match(
      far.stderr,
      /the nearest before it is step 230; with --max-steps 5 these steps can be replayed: 1 to 5, /u,
    );
  });

  test('top names the steps with the highest loss of a task', async () => {
    const top = await json<{ step: number; loss: number; examples: unknown[] }[]>(
      'top',
      run,
      '--task',
      'wn_define',
      '--last',
      '100',
    );
    assert.equal(top.length, 5);
    assert.deepEqual(
      top.map(({ loss }) => loss),
      top.map(({ loss }) => loss).sort((a, b) => b - a),
    );
    const losses = new Map<number, number>();
    for (const record of readLog(run))
      if (record.msg === 'step committed' && Number(record['step']) > 200)
        losses.set(Number(record['step']), (record['taskLoss'] as Record<string, number>)['wn_define'] ?? 0);
    const highest = Math.max(...losses.values());
    assert.ok(Math.abs(top[0]!.loss - highest) <= highest / 2 ** 16);
    assert.ok(top.every(({ examples }) => examples.length > 0));
  });

  test('wrong names, steps and folders are reported', async () => {
    const cases: [string[], number, RegExp][] = [
      [['show', run, '--step', '301'], 2, /CONFIG_INVALID: --step: expected a step .* 1 to 300, got 301/u],
      [['show', run, '--step', '3', '--task', 'wn_defin'], 2, /NAME_UNKNOWN: .*did you mean wn_define/u],
      [['audit', join(folder, 'nowhere')], 2, /PATH_UNUSABLE/u],
      [['audti', run], 2, /NAME_UNKNOWN: there is no command "exmix ledger audti"; did you mean audit\?/u],
    ];
    for (const [args, status, message] of cases) {
      const { code, stderr } = await ledger(...args);
      assert.match(stderr, message);
      assert.equal(code, status, stderr);
    }
    assert.match((await ledger('--help')).stdout, /Examples:\n +exmix ledger audit /u);
  });

  test('the audit of a damaged ledger ends with status 1 and lists the lost steps', async () => {
    const path = join(run, 'ledger', readdirSync(join(run, 'ledger')).sort()[1]!);
    const bytes = readFileSync(path);
    const damaged = Buffer.from(bytes);
    damaged[damaged.length - 500] = damaged[damaged.length - 500]! ^ 4;
    writeFileSync(path, damaged);
    const { code, stdout } = await ledger('audit', run);
    assert.equal(code, 1);
    assert.match(stdout, /NOT clean: [\s\S]*damaged [\s\S]*not recorded +steps 1\d\d to 180 of epoch 2/u);
    writeFileSync(path, bytes);
    rmSync(path);
    assert.equal((await ledger('audit', run)).code, 1);
  });
});
