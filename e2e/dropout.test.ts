/** Trains with dropout in real processes: the same bits for any number of workers, killed or resumed, and the same masks in any microbatch. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { ChaosRecord } from '../cli/chaos/chaos-report.ts';
import { exmix, finalDigest, readLog, temporaryFolder, TINY } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const runFolder = (name: string): string => join(folder, name);
const DROPOUT = ['--set', 'training.dropout.rate=0.1'];
/** Eight rows in each of four lanes. */
const ROWS = ['--set', 'training.rowsPerStep=32'];

async function train(name: string, ...args: string[]): Promise<void> {
  const ended = await exmix(['train', '--config', TINY, '--run-dir', runFolder(name), ...ROWS, ...args], home);
  assert.equal(ended.code, 0, ended.stdout + ended.stderr);
}

function losses(name: string): number[] {
  return readLog(runFolder(name)).flatMap(({ msg, loss }) => (msg === 'step committed' ? [Number(loss)] : []));
}

describe('a run with dropout 0.1', () => {
  let straight = '';

  before(async () => {
    await train('straight', ...DROPOUT, '--workers', '1');
    straight = finalDigest(runFolder('straight'));
  });

  for (const workers of ['2', '3'])
    test(`${workers} workers train the same bits as one`, async () => {
      await train(`w${workers}`, ...DROPOUT, '--workers', workers);
      assert.equal(finalDigest(runFolder(`w${workers}`)), straight);
    });

  test('with two workers killed it ends with the same bits', async () => {
    await train('killed', ...DROPOUT, '--workers', '3', '--chaos', 'kill@2,kill@5', '--chaos-seed', '7');
    const records = readFileSync(join(runFolder('killed'), 'chaos.jsonl'), 'utf8')
      .trimEnd()
      .split('\n');
    const faults = records.map((line) => JSON.parse(line) as ChaosRecord).filter(({ kind }) => kind === 'injected');
    assert.deepEqual(
      faults.map((fault) => fault.kind === 'injected' && [fault.fault, fault.notInjected]),
      [
        ['kill', null],
        ['kill', null],
      ],
    );
    assert.equal(finalDigest(runFolder('killed')), straight);
  });

  test('resumed half way with another number of workers it ends with the same bits', async () => {
    await train('halves', ...DROPOUT, '--workers', '2', '--steps', '4');
    const ended = await exmix(['train', '--resume', runFolder('halves'), '--steps', '8', '--workers', '3'], home);
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    assert.equal(finalDigest(runFolder('halves')), straight);
  });

  test('another rate, another seed and a mask shared along the length give other bits', async () => {
    const others = [
      ['off', '--set', 'training.dropout.rate=0'],
      ['seed', ...DROPOUT, '--seed', '8'],
      ['shared', ...DROPOUT, '--set', 'training.dropout.broadcastLength=true'],
    ];
    for (const [name, ...settings] of others) await train(name!, ...settings, '--workers', '1', '--steps', '2');
    const digests = others.map(([name]) => finalDigest(runFolder(name!)));
    assert.equal(new Set([straight, ...digests]).size, 4);
    await train('off-again', '--workers', '1', '--steps', '2');
    assert.equal(finalDigest(runFolder('off-again')), digests[0], 'a rate of 0 is no dropout');
  });

  // A product over eight rows and a sum of products over two round differently, so bits are compared within one size only.
  for (const rows of ['4', '8'])
    test(`with ${rows} rows in a microbatch the masks are those of 2 rows, and the bits are the same for any number of workers`, async () => {
      const size = ['--set', `training.microbatchRows=${rows}`];
      for (const workers of ['1', '3']) await train(`m${rows}w${workers}`, ...DROPOUT, ...size, '--workers', workers);
      assert.equal(finalDigest(runFolder(`m${rows}w3`)), finalDigest(runFolder(`m${rows}w1`)));
      const [found, expected] = [losses(`m${rows}w1`), losses('straight')];
      assert.equal(found.length, 8);
      for (const [i, loss] of found.entries())
        assert.ok(Math.abs(loss / expected[i]! - 1) < 1e-5, `step ${i + 1}: ${loss} and ${expected[i]}`);
    });

  test('a resume with another rate is refused', async () => {
    const args = ['train', '--resume', runFolder('straight'), '--steps', '9', '--set', 'training.dropout.rate=0.2'];
    const { code, stderr } = await exmix(args, home);
    assert.equal(code, 2);
    assert.match(stderr, /CHECKPOINT_MISMATCH: .*training\.dropout\.rate: 0\.1 → 0\.2/u);
  });
});
