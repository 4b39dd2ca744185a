/** Runs that begin with the parameters of a folder: same bits for any number of workers, killed or resumed; what is refused. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readFileSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { exmix, finalDigest, killWorkers, readLog, startExmix, temporaryFolder, TINY } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const place = (name: string): string => join(folder, name);
const source = place('source');
const checkpoint = join(source, 'checkpoints', 'step-4');
/** The checkpoint as Transformers would have it: without run, optimizer and manifest. */
const model = place('model');

const STEPS = ['--steps', '3'];

async function train(name: string, ...args: string[]): Promise<string> {
  const command = [
    'train',
    '--config',
    TINY,
    '--run-dir',
    place(name),
    ...(args.includes('--steps') ? [] : STEPS),
    ...args,
  ];
  const { code, stdout, stderr } = await exmix(command, home);
  assert.equal(code, 0, stdout + stderr);
  return finalDigest(place(name));
}

interface RunOpened {
  readonly kind: string;
  readonly step: number;
  readonly init?: { readonly folder: string; readonly paramDigest: string };
}

function epochsOf(name: string): RunOpened[] {
  const lines = readFileSync(join(place(name), 'journal'), 'utf8')
    .trimEnd()
    .split('\n');
  return lines
    .map((line) => JSON.parse(line.slice(line.indexOf('{'))) as RunOpened)
    .filter(({ kind }) => kind === 'run-opened');
}

describe('a run that begins with the parameters of a folder', () => {
  before(async () => {
    await train('source', '--workers', '1', '--steps', '4');
    for (const file of ['spiece.model', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'])
      assert.ok(readdirSync(checkpoint).includes(file), `a checkpoint has ${file}`);
    mkdirSync(model);
    const files = readdirSync(checkpoint).filter((name) => /^(?:config\.json|model.*|spiece\.model)$/u.test(name));
    for (const file of files) cpSync(join(checkpoint, file), join(model, file));
  });

  test('has the same bits for 1, 2 and 3 workers, for a killed one, and from a run folder, a checkpoint or a T5 of Hugging Face', async () => {
    const straight = await train('one', '--workers', '1', '--init', source);
    assert.equal(await train('two', '--workers', '2', '--init', checkpoint), straight);
    assert.equal(await train('three', '--workers', '3', '--init', model, '--set', 'model=from init'), straight);
    assert.equal(await train('chaos', '--workers', '2', '--init', model, '--chaos', 'kill@1'), straight);
    assert.notEqual(await train('seed', '--workers', '1'), straight);
    const [opened] = epochsOf('three');
    assert.deepEqual([opened?.init?.folder, opened?.init?.paramDigest], [model, finalDigest(source)]);
  });

  test('keeps the optimizer of a checkpoint, with the same bits for 1 and 2 workers', async () => {
    const keep = ['--init', source, '--set', 'init.optimizer=keep'];
    const kept = await train('keep-1', '--workers', '1', ...keep);
    assert.equal(await train('keep-2', '--workers', '2', ...keep), kept);
    assert.notEqual(finalDigest(place('one')), kept);
    const replay = await exmix(['ledger', 'replay', place('keep-2'), '--step', '2'], home);
    assert.equal(replay.code, 0, replay.stdout + replay.stderr);
  });

  test('killed before its first checkpoint it reads the folder again; with one it does not need the folder', async () => {
    const run = startExmix(
      [
        ...['train', '--config', TINY, '--run-dir', place('killed'), '--workers', '2', '--init', model],
        ...['--steps', '100000', '--set', 'checkpoint.everySteps=100000'],
      ],
      home,
    );
    await run.printed(/step 1\//u);
    run.child.kill('SIGKILL');
    await run.ended;
    killWorkers(place('killed'));
    const committed = readLog(place('killed')).filter(({ msg }) => msg === 'step committed').length;
    const steps = String(committed + 2);
    const again = await exmix(
      ['train', '--resume', place('killed'), '--workers', '3', '--steps', steps, '--set', 'checkpoint.everySteps=4'],
      home,
    );
    assert.equal(again.code, 0, again.stdout + again.stderr);
    const epochs = epochsOf('killed');
    assert.ok(epochs.length >= 2);
    assert.equal(epochs.at(-1)?.step, 0, 'no worker has the state, and there is no checkpoint');
    assert.ok(epochs.every(({ init }) => init?.paramDigest === finalDigest(source)));
    const straight = await train('straight', '--workers', '1', '--init', model, '--steps', steps);
    assert.equal(finalDigest(place('killed')), straight);

    renameSync(model, place('gone'));
    const more = String(committed + 3);
    await train('killed', '--workers', '1', '--init', model, '--steps', more);
    renameSync(place('gone'), model);
    assert.equal(
      finalDigest(place('killed')),
      await train('longer', '--workers', '2', '--init', model, '--steps', more),
    );
  });

  test('a folder that cannot be what the run begins with is refused before a run folder is made', async () => {
    const cases: readonly [string[], RegExp][] = [
      [['--init', place('nowhere')], /PATH_UNUSABLE: .*nowhere/u],
      [['--init', model, '--set', 'init.optimizer=keep'], /CONFIG_INVALID: .*use fresh/u],
      [['--init', model, '--set', 'model.dFf=32'], /CONFIG_INVALID: .*model\.dFf: expected 32, found 64/u],
      [['--set', 'model=from init'], /CONFIG_INVALID: .*add --init FOLDER/u],
      [['--init', model, '--set', `init.paramDigest=${'a'.repeat(64)}`], /CHECKPOINT_MISMATCH: .*paramDigest/u],
    ];
    for (const [args, message] of cases) {
      const command = ['train', '--config', TINY, '--run-dir', place('refused'), ...args];
      const { code, stderr } = await exmix(command, home);
      assert.match(stderr, message);
      assert.equal(code, 2, stderr);
      assert.ok(!readdirSync(folder).includes('refused'), stderr);
    }
    const resumed = [
      'train',
      '--resume',
      place('one'),
      '--steps',
      '4',
      '--init',
      model,
      '--set',
      'init.optimizer=keep',
    ];
    assert.match((await exmix(resumed, home)).stderr, /CONFIG_INVALID: .*use fresh/u);
    const other = ['train', '--resume', place('one'), '--steps', '4', '--init', place('killed')];
    assert.match((await exmix(other, home)).stderr, /CHECKPOINT_MISMATCH/u);
  });
});
