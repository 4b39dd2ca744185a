/** Evaluation while training, with real processes: the bits of the run stay, and so do the results, for any number of workers and a SIGKILL. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import {
  exmix,
  finalDigest,
  killWorkers,
  logged,
  readLog,
  startExmix,
  temporaryFolder,
  TINY,
} from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const runOf = (name: string): string => join(folder, name);
const EVALUATION = [
  ...['--set', 'evaluation.everySteps=4', '--set', 'evaluation.maxExamples=6'],
  ...['--set', 'evaluation.tasks=[wn_*, text_denoising]', '--set', 'evaluation.decoding={maxNewTokens: 8}'],
];
const command = (name: string, workers: number, more: readonly string[] = []): string[] => [
  ...['train', '--config', TINY, '--run-dir', runOf(name), '--workers', String(workers), '--steps', '8', ...more],
];

/** Content by path under the folder. */
function filesOf(root: string): Map<string, string> {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = entries.map(({ parentPath, name }) => join(parentPath, name)).sort();
  return new Map(paths.map((path) => [path.slice(root.length), readFileSync(path, 'utf8')]));
}

const resultsOf = (name: string): Map<string, string> => filesOf(join(runOf(name), 'validation'));

/** A failing test leaves workers behind. */
after(() => killWorkers(runOf('killed')));

describe('evaluation while training', () => {
  test('digest and results are the same without it, with 1 and 2 workers, and with one that was killed in it', async () => {
    assert.equal((await exmix(command('plain', 2), home)).code, 0);
    const one = await exmix(command('one', 1, EVALUATION), home);
    assert.equal(one.code, 0, one.stderr);
    assert.match(one.stdout, /validation after step 8: mean [\d.]+/u);
    assert.match(one.stdout, /wn_entails +6 +[\d.]+ +accuracy +[\d.]+/u);

    const killed = startExmix(command('killed', 2, EVALUATION), home);
    await killed.printed(/run opened/u);
    await logged(runOf('killed'), 0, ({ msg }) => msg === 'validation started', 'a validation');
    const { process: worker } = JSON.parse(readFileSync(join(runOf('killed'), 'workers', 'local-1.json'), 'utf8')) as {
      process: { pid: number };
    };
    process.kill(worker.pid, 'SIGKILL');
    assert.equal((await killed.ended).code, 0);
    const log = readLog(runOf('killed'));
    const at = (wanted: string): number => log.findIndex(({ msg }) => msg === wanted);
    const lost = log.findIndex(({ msg, level }) => msg === 'generation ended' && level === 'warn');
    assert.ok(at('validation started') < lost && lost < at('validation'), 'the worker was lost in the validation');

    assert.equal(finalDigest(runOf('one')), finalDigest(runOf('plain')));
    assert.equal(finalDigest(runOf('killed')), finalDigest(runOf('plain')));
    const results = resultsOf('one');
    assert.ok(results.has('/step-4/results.json') && results.has('/step-8/predictions/wn_define.jsonl'));
    assert.deepEqual(resultsOf('killed'), results);
    const steps = log.flatMap(({ msg, step }) => (msg === 'validation' ? [step] : []));
    assert.deepEqual(steps, [4, 8]);
    assert.equal((await exmix(['ledger', 'audit', runOf('killed')], home)).code, 0);

    const status = await exmix(['status', runOf('one'), '--json'], home);
    const { validation } = JSON.parse(status.stdout) as { validation: { newest: { step: number } } };
    assert.equal(validation.newest.step, 8);
  });

  test('its results are those of exmix evaluate on the same checkpoint, and two of them are compared', async () => {
    const place = (step: number): string => join(runOf('one'), 'validation', `step-${step}`);
    const out = join(folder, 'evaluated');
    const evaluated = await exmix(
      [
        ...['evaluate', join(runOf('one'), 'checkpoints', 'step-8'), '--tasks', 'wn_*,text_denoising', '--out', out],
        ...['--max-examples', '6', '--max-new-tokens', '8', '--engine', 'wasm'],
      ],
      home,
    );
    assert.equal(evaluated.code, 0, evaluated.stderr);
    const written = ([...files]: readonly (readonly [string, string])[]): [string, string][] =>
      files
        .map(([path, text]) => [path, text] as [string, string])
        .filter(([path]) => /predictions|results/u.test(path));
    assert.deepEqual(written([...filesOf(place(8))]), written([...filesOf(out)]));

    const { code, stdout, stderr } = await exmix(['evaluate', 'compare', place(4), place(8)], home);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^text_denoising\/validation +loss .*(?:B is higher|B is lower|not told apart)$/mu);
    assert.match(stdout, /wn_define\/validation: \d of 6 predictions changed/u);
  });

  test('a run whose validations are no better ends after the same step, killed or not, and goes on with more patience', async () => {
    // Updates this small change no parameter, so no loss is below the first.
    const early = [
      ...['--set', 'evaluation.everySteps=2', '--set', 'evaluation.maxExamples=4', '--set', 'evaluation.lossOnly=true'],
      ...['--set', 'evaluation.tasks=[wn_*]', '--set', 'schedule={kind: constant, value: 1e-20}'],
      ...['--set', 'evaluation.stopWhen.metric=loss', '--set', 'evaluation.stopWhen.patience=2'],
    ];
    const one = await exmix(command('early', 1, early), home);
    assert.equal(one.code, 0, one.stdout + one.stderr);
    assert.match(
      one.stdout,
      /Run finished\n {2}steps +6 of 8 .*\n {2}stopped +no better loss than [\d.]+ of step 2 in 2 validations up to step 6\n/u,
    );

    const chaos = ['--chaos', 'kill@3,coordinator-kill@5'];
    const killed = await exmix(command('early-killed', 2, [...early, ...chaos]), home);
    assert.equal(killed.code, 0, killed.stdout + killed.stderr);
    const opened = readLog(runOf('early-killed')).filter(({ msg }) => msg === 'run opened');
    assert.equal(opened.length, 2, 'the coordinator was killed');
    assert.equal(finalDigest(runOf('early-killed')), finalDigest(runOf('early')));
    assert.deepEqual(
      readLog(runOf('early-killed'))
        .filter(({ msg }) => msg === 'run finished')
        .map(({ step }) => step),
      [6],
    );

    const finished = await exmix(command('early', 1, early), home);
    assert.equal(finished.code, 0, finished.stdout + finished.stderr);
    assert.match(finished.stdout, /6 of 8 \(0 in this session\)/u);
    const patient = await exmix(command('early', 2, [...early, '--set', 'evaluation.stopWhen.patience=9']), home);
    assert.equal(patient.code, 0, patient.stdout + patient.stderr);
    assert.match(patient.stdout, /8 of 8 \(2 in this session\)/u);

    const unknown = await exmix(
      command('refused', 1, [...early, '--set', 'evaluation.stopWhen.metric=wn_defin']),
      home,
    );
    assert.equal(unknown.code, 2, unknown.stdout);
    assert.match(
      unknown.stderr,
      /CONFIG_INVALID: evaluation\.stopWhen\.metric: expected mean, gem, loss or one of the evaluated sets \(wn_/u,
    );
  });
});
