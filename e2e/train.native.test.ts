/** Whole runs on the native engine: the same promises as on wasm. Needs an engine in $EXMIX_HOME; run by `npm run test:native`. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { exmixHome } from '../shared/exmix-home.ts';
import { enginesFolder } from '../shared/installed-engine.ts';
import { exmix, finalDigest, readLog, temporaryFolder, TINY } from './exmix-process.ts';

const folder = temporaryFolder();
const home = join(folder, 'home');
const runFolder = (name: string): string => join(folder, name);

async function train(name: string, ...args: string[]): Promise<void> {
  const ended = await exmix(['train', '--run-dir', runFolder(name), ...args], home);
  assert.equal(ended.code, 0, ended.stdout + ended.stderr);
}

const losses = (name: string): unknown[] =>
  readLog(runFolder(name)).flatMap((record) => (record.msg === 'step committed' ? [record['loss']] : []));

describe('a run on the native engine', () => {
  let straight = '';

  before(async () => {
    mkdirSync(home);
    symlinkSync(enginesFolder(exmixHome()), enginesFolder(home)); // prepared mixtures stay apart
    await train('straight', '--config', TINY, '--engine', 'native', '--workers', '1');
    straight = finalDigest(runFolder('straight'));
  });

  for (const workers of [1, 2, 3])
    test(`${workers} workers train the bits of the first run`, async () => {
      await train(`w${workers}`, '--config', TINY, '--engine', 'native', '--workers', String(workers));
      assert.equal(finalDigest(runFolder(`w${workers}`)), straight);
    });

  test('stopped and resumed with another number of workers, the bits are those of the run that did not stop', async () => {
    await train('halves', '--config', TINY, '--engine', 'native', '--workers', '2', '--steps', '5');
    const ended = await exmix(['train', '--resume', runFolder('halves'), '--steps', '8', '--workers', '3'], home);
    assert.equal(ended.code, 0, ended.stdout + ended.stderr);
    assert.equal(finalDigest(runFolder('halves')), straight);
  });

  test('auto takes it, and its losses are those of wasm to four digits', async () => {
    await train('auto', '--config', TINY, '--engine', 'auto');
    assert.equal(finalDigest(runFolder('auto')), straight);
    await train('wasm', '--config', TINY, '--engine', 'wasm');
    assert.notEqual(finalDigest(runFolder('wasm')), straight);
    const [native, wasm] = [losses('auto'), losses('wasm')].map((values) => values.map(Number));
    assert.equal(native!.length, 8);
    for (const [i, loss] of native!.entries())
      assert.ok(Math.abs(loss - wasm![i]!) < 1e-4 * loss, `${loss}, ${wasm![i]}`);
  });
});
