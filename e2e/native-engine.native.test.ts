/** Whole runs on the native engine that is installed in exmix's home: auto chooses it, and any number of workers gives the same bits. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { z } from 'zod';
import { exmixHome } from '../shared/exmix-home.ts';
import { enginesFolder, findInstalledEngine } from '../shared/installed-engine.ts';
import { findGpus } from '../worker/machine/gpus.ts';
import { exmix, readLog, temporaryFolder, TINY } from './exmix-process.ts';

const findingsSchema = z.array(z.object({ check: z.string(), status: z.string(), detail: z.string() }));

describe('the native engine in whole runs', () => {
  const folder = temporaryFolder();
  const home = join(folder, 'home');
  const bare = join(folder, 'bare');

  before(async () => {
    const installed = await findInstalledEngine(exmixHome());
    assert.ok(installed !== undefined, `no native engine in ${exmixHome()}: run exmix engine install`);
    mkdirSync(home);
    symlinkSync(enginesFolder(exmixHome()), enginesFolder(home));
  });

  async function train(name: string, ...flags: string[]): Promise<{ digest: string; stdout: string }> {
    const engine = flags.includes('--engine') ? [] : ['--engine', 'auto'];
    const args = ['train', '--config', TINY, '--device', 'cpu', '--run-dir', join(folder, name), ...engine, ...flags];
    const { code, stdout, stderr } = await exmix(args, home);
    assert.equal(code, 0, stdout + stderr);
    return { digest: /^ {2}parameters {2}(\w{64})$/mu.exec(stdout)![1]!, stdout };
  }

  test('auto chooses it, and runs of 1, 2 and 3 workers and a resumed run end with the same bits', async () => {
    const one = await train('one', '--workers', '1');
    assert.match(
      one.stdout,
      /engine chosen engine=native reason=engine native \(TensorFlow .*: it is installed; 1 thread a worker/u,
    );
    assert.match(one.stdout, /engineFingerprint=TensorFlow [^;]+; CPU with 1 thread;/u);
    assert.match(one.stdout, /times the prediction/u);
    for (const workers of ['2', '3']) assert.equal((await train(workers, '--workers', workers)).digest, one.digest);

    await train('stopped', '--workers', '2', '--steps', '4');
    const args = ['train', '--resume', join(folder, 'stopped'), '--steps', '8', '--workers', '1'];
    const resumed = await exmix(args, home);
    assert.equal(resumed.code, 0, resumed.stdout + resumed.stderr);
    assert.ok(resumed.stdout.includes(one.digest), 'the run folder keeps engine and threads');
    const config = readFileSync(join(folder, 'stopped/config.yaml'), 'utf8');
    assert.match(config, /engine: native/u);
    assert.match(config, /threads: 1/u);
  });

  test('its losses equal those of wasm to four digits', async () => {
    const losses = (name: string): number[] =>
      readLog(join(folder, name)).flatMap(({ msg, loss }) => (msg === 'step committed' ? [Number(loss)] : []));
    await train('native');
    await train('wasm', '--engine', 'wasm');
    const wasm = losses('wasm');
    assert.deepEqual([wasm.length, losses('native').length], [8, 8]);
    for (const [i, loss] of losses('native').entries())
      assert.ok(Math.abs(loss - wasm[i]!) < 1e-4 * loss, `step ${i + 1}`);
  });

  test('a run that began on it is not resumed on another engine without --engine', async () => {
    const { code, stderr } = await exmix(['train', '--resume', join(folder, 'one'), '--steps', '12'], bare);
    assert.equal(code, 2);
    assert.match(
      stderr,
      /ENGINE_UNAVAILABLE: the native engine is not installed; run exmix engine install, or take --engine wasm/u,
    );
  });

  test('a requested GPU on a host without one is an error', async (t) => {
    if ((await findGpus()).count > 0) {
      t.skip('this host has a GPU');
      return;
    }
    const args = ['train', '--config', TINY, '--engine', 'native', '--device', 'gpu', '--run-dir', join(folder, 'gpu')];
    const { code, stderr } = await exmix(args, home);
    assert.equal(code, 2);
    assert.match(stderr, /ENGINE_UNAVAILABLE: --device gpu: no GPU is visible/u);
  });

  test('the doctor checks it and finds no problem', async () => {
    const { stdout, stderr } = await exmix(['doctor', '--engine', 'auto', '--device', 'cpu', '--json'], home);
    const findings = findingsSchema.parse(JSON.parse(stdout));
    const of = (check: string) => findings.filter((finding) => finding.check === check);
    assert.match(of('installed')[0]!.detail, /TensorFlow/u, stderr);
    assert.match(of('self-test')[0]!.detail, /reference checks passed by native/u);
    for (const check of ['installed', 'engine', 'self-test', 'speed'])
      assert.ok(
        of(check).every(({ status }) => status === 'ok'),
        JSON.stringify(of(check)),
      );
  });
});
