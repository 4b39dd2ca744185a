import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { assignLanes } from '../../shared/assign-lanes.ts';
import { Rebalance, WorkerSpeeds } from './lane-speeds.ts';

const even = assignLanes(8, 2).runs;

/** @returns the first step in which the rule gives a reason, from 1 */
function firstTold(
  rule: Rebalance,
  steps: number,
  speedsOf: (step: number) => number[] | undefined,
): number | undefined {
  for (let step = 1; step <= steps; step++) if (rule.observe(speedsOf(step)) !== undefined) return step;
  return undefined;
}

describe('Rebalance', () => {
  const CASES: readonly [string, (step: number) => number[] | undefined, number | undefined][] = [
    ['ranks alike', () => [4, 4], undefined],
    ['a rank of half the speed, for twenty steps', () => [4, 2], 20],
    ['too little to win', () => [4, 3.7], undefined],
    ['a difference that no split of whole lanes can use', () => [4, 3.4], undefined],
    ['speeds that are not known', () => undefined, undefined],
    ['a rank that is slow in every other step', (step) => (step % 2 === 0 ? [4, 2] : [4, 4]), undefined],
    ['a rank that becomes slow', (step) => (step <= 30 ? [4, 4] : [4, 2]), 50],
  ];
  for (const [name, speedsOf, expected] of CASES)
    test(name, () => assert.equal(firstTold(new Rebalance(8, even), 100, speedsOf), expected));

  test('keeps lanes that are assigned by speed', () => {
    const { runs } = assignLanes(8, 2, [4, 2]);
    assert.equal(
      firstTold(new Rebalance(8, runs), 100, () => [4, 2]),
      undefined,
    );
  });

  test('names the gain', () => {
    const rule = new Rebalance(8, even);
    for (let step = 1; step < 20; step++) rule.observe([4, 2]);
    assert.match(rule.observe([4, 2])!, /would make a step 25 % shorter, for 20 steps now/u);
  });
});

describe('WorkerSpeeds', () => {
  test('are the last ones of each worker, at any rank', () => {
    const speeds = new WorkerSpeeds();
    speeds.learn(['a', 'b'], [4, 2]);
    speeds.learn(['b', 'c'], [3, 5]);
    speeds.learn(['a', 'c'], undefined);
    assert.deepEqual(speeds.of(['c', 'a', 'b']), [5, 4, 3]);
  });

  test('are undefined if one is not known', () => {
    const speeds = new WorkerSpeeds();
    speeds.learn(['a'], [4]);
    assert.equal(speeds.of(['a', 'b']), undefined);
  });
});
