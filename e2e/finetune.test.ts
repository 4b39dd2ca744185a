/** `exmix finetune` with real processes: the config that it writes, the same bits for any number of workers, the best by validation, the search. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { parse } from 'yaml';
import { exmix, finalDigest, readLog, temporaryFolder, TINY } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const runFolder = (name: string): string => join(folder, name);
const SETTINGS = [
  '--set',
  'evaluation.maxExamples=4',
  '--set',
  'evaluation.decoding={method: greedy, maxNewTokens: 4}',
];

function finetune(name: string, ...args: string[]) {
  return exmix(['finetune', runFolder('base'), '--run-dir', runFolder(name), ...SETTINGS, ...args], home);
}

describe('exmix finetune', () => {
  before(async () => {
    const base = ['train', '--config', TINY, '--run-dir', runFolder('base'), '--workers', '1', '--steps', '2'];
    const { code, stdout, stderr } = await exmix(base, home);
    assert.equal(code, 0, stdout + stderr);
  });

  test('trains one task from the newest checkpoint by the recipe of T5, and writes the config that does so', async () => {
    const { code, stdout, stderr } = await finetune('one', '--task', 'country_qa', '--steps', '4', '--workers', '1');
    assert.equal(code, 0, stdout + stderr);
    const file = `${runFolder('one')}.yaml`;
    assert.ok(stdout.includes(`config ${file}: `), stdout);
    const config = parse(readFileSync(file, 'utf8')) as Record<string, Record<string, unknown>>;
    assert.deepEqual(config['init'], { from: runFolder('base'), optimizer: 'fresh' });
    assert.deepEqual(config['schedule'], { kind: 'constant', value: 0.001 });
    assert.deepEqual(config['training']!['dropout'], { rate: 0.1 });
    assert.deepEqual([config['training']!['rowsPerStep'], config['mixture']!['denoisingRatio']], [8, 0]);
    assert.deepEqual(config['mixture']!['tasks'], ['country_qa']);
    const records = readLog(runFolder('one'));
    const steps = records.filter(({ msg }) => msg === 'step committed');
    assert.deepEqual(steps.map((record) => [record['lr'], Object.keys(record['taskLoss'] as object)]), steps.map(() => [0.001, ['country_qa']])); // prettier-ignore
    assert.ok(
      records.some(({ msg }) => msg === 'validation'),
      'it evaluates',
    );
    assert.match(stdout, /validation after step 4: .*\n +task +examples +loss/u);
  });

  test('two workers train the same bits, and the same command continues a finished run', async () => {
    const args = ['--task', 'country_qa', '--steps', '4', '--workers', '2'];
    for (let time = 0; time < 2; time++) {
      const { code, stdout, stderr } = await finetune('two', ...args);
      assert.equal(code, 0, stdout + stderr);
    }
    assert.equal(finalDigest(runFolder('two')), finalDigest(runFolder('one')));
  });

  test('a search has a run for each learning rate, and names the best by validation', async () => {
    const { code, stdout, stderr } = await finetune('grid', '--task', 'country_qa', '--steps', '2', '--workers', '1', '--search', 'lr=1e-2,1e-4'); // prettier-ignore
    assert.equal(code, 0, stdout + stderr);
    for (const rate of ['0.01', '0.0001']) {
      const committed = readLog(join(runFolder('grid'), `lr-${rate}`)).find(({ msg }) => msg === 'step committed');
      assert.equal(committed?.['lr'], Number(rate));
    }
    assert.match(stdout, /best by validation: learning rate 0\.01?0*1?, step \d+, .*grid\/lr-/u);
  });

  test('refuses what it cannot train, before anything is made', async () => {
    for (const [args, message] of [
      [['--task', 'country_qaa'], /NAME_UNKNOWN: .*country_qaa/u],
      [['--search', 'lr=fast'], /CONFIG_INVALID: --search: expected lr=RATE/u],
      [['--search', 'lr=1e-3,0.001'], /CONFIG_INVALID: --search/u],
      [['--workers', '0'], /CONFIG_INVALID: --workers/u],
      [['--set', 'training.stepps=3'], /training\.stepps/u],
    ] as const) {
      const { code, stdout, stderr } = await finetune('refused', ...args);
      assert.equal(code, 2, stdout + stderr);
      assert.match(stderr, message);
    }
    assert.ok(!existsSync(runFolder('refused')));
    const nowhere = await exmix(['finetune', folder, '--task', 'country_qa', '--mixture', 'demo'], home);
    assert.equal(nowhere.code, 2, nowhere.stderr);
    assert.match(nowhere.stderr, /PATH_UNUSABLE|CONFIG_INVALID/u);
  });
});
