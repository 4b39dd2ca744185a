import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { childCommand } from './train-process.ts';

describe('command line of the run under chaos', () => {
  const cases: readonly [string, string][] = [
    ['train --preset demo --chaos kill=0.1 --steps 5', 'train --preset demo --steps 5'],
    ['train --chaos=kill=0.1 --chaos-seed=3 --set a=1', 'train --set a=1'],
    ['train --chaos kill@3 --chaosSeed 3 --workers 2', 'train --workers 2'],
    ['train --chaos-verify --preset demo', 'train --preset demo'],
    ['train --chaos-verify true --no-chaos-verify --chaosVerify=false --seed 7', 'train --seed 7'],
    ['train --run-dir /x --seed 7 --run-dir=/y --runDir /z', 'train --seed 7'],
    ['train --set name=chaos', 'train --set name=chaos'],
  ];
  for (const [given, expected] of cases)
    test(given, () => {
      assert.deepEqual(childCommand(given.split(' '), '/r'), [...expected.split(' '), '--run-dir', '/r']);
    });
});
