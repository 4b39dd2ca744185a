import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
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

test('run-settings.ts is what the schema says; write it with: node --import tsx api/write-run-settings.ts', () => {
  assert.equal(readFileSync(RUN_SETTINGS_FILE, 'utf8'), renderRunSettings());
});
