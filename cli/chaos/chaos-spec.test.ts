import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FAULTS, parseChaosSpec } from './chaos-spec.ts';

describe('--chaos', () => {
  test('every fault accepts a probability and any number of steps', () => {
    for (const fault of FAULTS) {
      const { probabilities, scheduled } = parseChaosSpec(`${fault}=0.25,${fault}@3, ${fault} @ 40`);
      assert.deepEqual([...probabilities], [[fault, 0.25]]);
      assert.deepEqual(
        [...scheduled],
        [
          [3, [fault]],
          [40, [fault]],
        ],
      );
    }
  });

  test('faults of the same step are collected in their order', () => {
    const { probabilities, scheduled } = parseChaosSpec('kill@7,join@7,kill@7');
    assert.equal(probabilities.size, 0);
    assert.deepEqual([...scheduled], [[7, ['kill', 'join', 'kill']]]);
  });

  const wrong: readonly [string, RegExp][] = [
    ['', /expected fault=probability or fault@step.*got ""/u],
    ['kill', /expected fault=probability.*got "kill"/u],
    ['kill=0.1,', /got ""/u],
    ['kil=0.1', /no fault is called "kil"; did you mean .*\bkill\b/u],
    ['coordinator@4', /"coordinator"; did you mean coordinator-kill\?/u],
    ['xyzzyx=1', /no fault is called "xyzzyx"; expected kill, stop, leave, join, coordinator-kill/u],
    ['corrupt=0.1', /no fault is called "corrupt"/u],
    ['kill=0', /kill=0: expected a probability above 0 and at most 1, got "0"/u],
    ['kill=1.5', /at most 1, got "1.5"/u],
    ['kill=', /got ""/u],
    ['kill=often', /got "often"/u],
    ['join@0', /join@0: expected a step, a whole number of at least 1, got "0"/u],
    ['join@1.5', /got "1.5"/u],
    ['join@1e2', /got "1e2"/u],
    ['kill=0.1,kill=0.2', /kill has two probabilities/u],
    [Array.from({ length: 1025 }, (_, step) => `kill@${step + 1}`).join(','), /at most 1024 rules, got 1025/u],
  ];
  for (const [spec, message] of wrong)
    test(`rejects ${JSON.stringify(spec.slice(0, 40))}`, () => {
      assert.throws(() => parseChaosSpec(spec), { code: 'CONFIG_INVALID', message });
    });
});
