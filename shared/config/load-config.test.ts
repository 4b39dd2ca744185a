import assert from 'node:assert/strict';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { describe, test } from 'node:test';
import { checkConfig, loadConfig, numericsHash, parseSetting } from './load-config.ts';

const BASE = `
name: tiny
model: { vocabSize: 512, dModel: 64, dKv: 16, dFf: 128, numLayers: 2, numDecoderLayers: 2, numHeads: 4 }
mixture: { path: mixture.yaml }
training: { steps: 10, rowsPerStep: 16, numLanes: 4, microbatchRows: 2 }
schedule: { kind: constant, value: 0.01 }
`;

async function configFile(text: string): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'exmix-config-'));
  const file = join(folder, 'config.yaml');
  await writeFile(file, text);
  return file;
}

describe('configuration', () => {
  test('defaults are filled in and file paths become absolute, relative to the file', async () => {
    const file = await configFile(BASE);
    const config = await loadConfig(file, []);
    assert.equal(config.mixture.path, join(file, '..', 'mixture.yaml'));
    assert.equal(config.mixture.denoisingRatio, 2);
    assert.equal(config.featureLengths.inputs, 512);
    assert.equal(config.cluster.listenHost, '127.0.0.1');
  });

  test('the URL of a prepared mixture stays as it is, in a file and in a setting; a path there becomes absolute', async () => {
    const url = 's3://bucket/mixtures/exmix';
    const file = await configFile(BASE);
    const preparedOf = async (value: string) =>
      (await loadConfig(file, [parseSetting(`mixture.prepared=${value}`)])).mixture.prepared;
    assert.equal(await preparedOf(url), url);
    assert.equal(await preparedOf('here'), resolve('here'));
    assert.equal(await preparedOf('file:///data/with%20space'), '/data/with space');
    const inFile = await configFile(BASE.replace('mixture: {', `mixture: { prepared: '${url}', `));
    assert.equal((await loadConfig(inFile, [])).mixture.prepared, url);
    const byFileUrl = await configFile(BASE.replace('mixture: {', `mixture: { prepared: 'file:///data/exmix', `));
    assert.equal((await loadConfig(byFileUrl, [])).mixture.prepared, '/data/exmix');
  });

  test('a setting wins over the file, and a later setting over an earlier one', async () => {
    const file = await configFile(BASE);
    const config = await loadConfig(file, [parseSetting('training.steps=3'), parseSetting('training.steps=4')]);
    assert.equal(config.training.steps, 4);
  });

  test('every problem is reported at once with its path, and a mistyped name gets the nearest one', async () => {
    const file = await configFile(BASE.replace('steps: 10', 'stepps: 10').replace('numLanes: 4', 'numLanes: -4'));
    await assert.rejects(
      loadConfig(file, [parseSetting('colective.link=direct')]),
      (error: Error & { code?: string }) => {
        assert.equal(error.code, 'CONFIG_INVALID');
        for (const part of [
          'training.stepps: no such setting, did you mean steps',
          'training.steps:',
          'training.numLanes:',
          'colective',
        ])
          assert.ok(error.message.includes(part), `${part} in ${error.message}`);
        return true;
      },
    );
  });

  for (const [setting, path] of [
    ['training.numLanes=6', 'training.numLanes'],
    ['training.numLanes=131072', 'training.numLanes'],
    ['training.rowsPerStep=18', 'training.rowsPerStep'],
    ['training.microbatchRows=3', 'training.microbatchRows'],
    ['cluster.minWorkers=5', 'cluster.minWorkers'],
    ['cluster.heartbeatTimeoutMs=10', 'cluster.heartbeatTimeoutMs'],
  ] as const) {
    test(`refuses ${setting}`, async () => {
      const file = await configFile(BASE);
      await assert.rejects(loadConfig(file, [parseSetting(setting)]), (error: Error) => error.message.includes(path));
    });
  }

  for (const text of ['steps', '=3', 'a..b=1', 'a=[1']) {
    test(`refuses the setting ${text}`, () => {
      assert.throws(() => parseSetting(text), { code: 'CONFIG_INVALID' });
    });
  }

  test('a missing file is PATH_UNUSABLE and a file that is no mapping is CONFIG_INVALID', async () => {
    await assert.rejects(loadConfig('/nowhere/config.yaml', []), { code: 'PATH_UNUSABLE' });
    await assert.rejects(loadConfig(await configFile('- 1'), []), { code: 'CONFIG_INVALID' });
    await assert.rejects(loadConfig(await configFile('a: [1'), []), { code: 'CONFIG_INVALID' });
  });

  test('the numerics hash ignores steps, paths and the cluster, and sees seed, model and lanes', async () => {
    const file = await configFile(BASE);
    const hash = async (...settings: string[]) => numericsHash(await loadConfig(file, settings.map(parseSetting)));
    const base = await hash();
    assert.equal(await hash('training.steps=99', 'mixture.path=/x.yaml', 'cluster.minWorkers=2', 'name=other'), base);
    for (const setting of [
      'seed=2',
      'model.dFf=64',
      'training.numLanes=8',
      'training.gradientPrecision=bfloat16',
      'schedule.value=0.02',
      'mixture.rates={a: 1}',
    ])
      assert.notEqual(await hash(setting), base, setting);
  });

  test('a resolved config checks as itself', async () => {
    const config = await loadConfig(await configFile(BASE), []);
    assert.deepEqual(checkConfig(JSON.parse(JSON.stringify(config)), 'again'), config);
  });
});
