import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { train, type TrainOptions } from './train.ts';
import { renderRunSettings, RUN_SETTINGS_FILE } from './write-run-settings.ts';

describe('train', () => {
  const refused: readonly [string, TrainOptions, string, RegExp][] = [
    ['a preset that is not there', { preset: 'dmeo' }, 'NAME_UNKNOWN', /did you mean demo\?/u],
    ['a preset and a file', { preset: 'demo', config: 'a.yaml' }, 'CONFIG_INVALID', /expected one of them/u],
    ['no worker', { preset: 'demo', workers: 0 }, 'CONFIG_INVALID', /^workers: .*got 0/u],
    ['half a worker', { preset: 'demo', workers: 1.5 }, 'CONFIG_INVALID', /^workers: .*got 1\.5/u],
    ['settings without a mixture', { settings: { name: 'a' } }, 'CONFIG_INVALID', /^settings has .*mixture/su],
    [
      'a setting out of its range',
      { preset: 'demo', settings: { training: { numLanes: 3 } } },
      'CONFIG_INVALID',
      /training\.numLanes: expected a power of two/u,
    ],
    [
      'a setting that does not exist, as a program without types may give it',
      { preset: 'demo', settings: { training: { setps: 3 } } as object },
      'CONFIG_INVALID',
      /did you mean steps\?/u,
    ],
  ];
  for (const [what, options, code, message] of refused)
    test(`rejects ${what}`, () => assert.rejects(train(options), { code, message }));

  test('rejects a signal that has fired before the mixture is prepared', () =>
    assert.rejects(train({ preset: 'demo', settings: { compute: { engine: 'wasm' } }, signal: AbortSignal.abort() }), {
      code: 'ABORTED',
    }));
});

describe('a run folder that names TypeScript', () => {
  const folder = mkdtempSync(join(tmpdir(), 'exmix-api-'));
  after(() => rmSync(folder, { recursive: true }));
  const mark = join(folder, 'ran');
  const run = join(folder, 'run');
  mkdirSync(run);
  const config = {
    ...{ name: 'a', mixture: { path: join(run, 'mixture.yaml') }, compute: { engine: 'wasm' } },
    ...{ model: {}, schedule: { kind: 'constant' } },
    ...{ training: { steps: 4, rowsPerStep: 8, numLanes: 4, microbatchRows: 2 }, checkpoint: { everySteps: 2 } },
  };
  writeFileSync(join(run, 'config.yaml'), JSON.stringify(config));
  writeFileSync(join(run, 'mixture.yaml'), 'name: a\ntokenizer: no.model\ntasks: [{ module: task.ts }]\n');
  const code = `import { writeFileSync } from 'node:fs';\nwriteFileSync(${JSON.stringify(mark)}, '');\nexport default 1;\n`;
  writeFileSync(join(run, 'task.ts'), code);

  test('is refused, and nothing has run', async () => {
    await assert.rejects(train({ resume: run, workers: 1 }), { code: 'MODULE_NOT_TRUSTED', message: /trustModules/u });
    assert.ok(!existsSync(mark));
  });

  test('runs it with trustModules', async () => {
    await assert.rejects(train({ resume: run, workers: 1, trustModules: true }), { code: 'CONFIG_INVALID' });
    assert.ok(existsSync(mark));
  });

  test('does not run it where the program names the mixture', async () => {
    rmSync(mark);
    const own = join(folder, 'own.yaml');
    writeFileSync(own, 'name: own\ntokenizer: no.model\ndenoising: { name: d, source: { path: t, format: text } }\n');
    const settings = { mixture: { path: own } };
    await assert.rejects(train({ resume: run, settings, workers: 1 }), {
      code: 'PATH_UNUSABLE',
      message: /no\.model/u,
    });
    assert.ok(!existsSync(mark));
  });
});

test('run-settings.ts is what the schema says; write it with: node --import tsx api/write-run-settings.ts', () => {
  assert.equal(readFileSync(RUN_SETTINGS_FILE, 'utf8'), renderRunSettings());
});
