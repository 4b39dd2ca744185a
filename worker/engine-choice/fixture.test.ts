import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { asFloat32, readSafetensors, writeSafetensors } from '../../shared/safetensors.ts';
import { runFixture } from './fixture.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'exmix-fixture-'));
});
after(() => rm(folder, { recursive: true }));

async function copyOf(name: string, keep: readonly string[]): Promise<string> {
  const to = await mkdtemp(join(folder, 'copy-'));
  for (const file of keep) await cp(join('golden', name, file), join(to, file));
  return to;
}

describe('engines against the reference', () => {
  for (const engine of ['wasm', 'cpu'])
    for (const [model, numChecks] of [
      ['t5-tiny-v1_1', 18],
      ['t5-tiny-v1_0', 13],
    ] as const)
      test(`${engine} computes ${model} as transformers does: plain, packed, generated, with z-loss`, async () => {
        const report = await runFixture(join('golden', model), engine);
        assert.deepEqual(
          report.checks.filter(({ passed }) => !passed),
          [],
        );
        assert.equal(report.checks.length, numChecks);
        assert.ok(report.passed);
      });

  test('config.classic.json describes the same model', async () => {
    const copy = await copyOf('t5-tiny-v1_1', ['model.safetensors', 'case.safetensors', 'config.classic.json']);
    const report = await runFixture(copy, 'wasm');
    assert.ok(report.passed);
    assert.equal(report.checks.length, 7);
  });

  test('a norm epsilon of 1e-5 instead of 1e-6 is caught', async () => {
    const copy = await copyOf('t5-tiny-v1_1', ['model.safetensors', 'case.safetensors', 'config.json']);
    const path = join(copy, 'config.json');
    await writeFile(path, (await readFile(path, 'utf8')).replace('1e-06', '1e-05'));
    const report = await runFixture(copy, 'wasm');
    assert.ok(!report.passed);
    assert.ok(report.checks.some(({ name, passed }) => name === 'logits' && !passed));
  });

  test('one wrong weight is caught, and NaN counts as a failure', async () => {
    const copy = await copyOf('t5-tiny-v1_0', ['model.safetensors', 'case.safetensors', 'config.json']);
    const path = join(copy, 'model.safetensors');
    const { tensors } = await readSafetensors(path);
    for (const wrong of [3, Number.NaN]) {
      asFloat32(tensors.get('decoder.final_layer_norm.weight')!)[5] = wrong;
      await writeSafetensors(path, [...tensors.values()]);
      const report = await runFixture(copy, 'wasm');
      assert.ok(!report.passed);
      assert.ok(report.checks.filter(({ passed }) => !passed).length >= 4);
    }
  });

  test('a folder that is not a fixture is refused with the missing file', async () => {
    await assert.rejects(runFixture(join(folder, 'absent'), 'wasm'), { code: 'PATH_UNUSABLE' });
    const noConfig = await copyOf('t5-tiny-v1_0', ['model.safetensors', 'case.safetensors']);
    await assert.rejects(runFixture(noConfig, 'wasm'), { code: 'PATH_UNUSABLE', message: /config\.json/ });
    const otherModel = await copyOf('t5-tiny-v1_0', ['model.safetensors', 'case.safetensors', 'config.json']);
    await cp('golden/t5-tiny-v1_1/model.safetensors', join(otherModel, 'model.safetensors'));
    await assert.rejects(runFixture(otherModel, 'wasm'), { code: 'CHECKPOINT_MISMATCH' });
  });
});
