import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { BrokenLinks } from './broken-links.ts';
import type { LinkFailure } from '../membership/generation.ts';

const MEMBERS = ['a', 'b', 'c', 'd'];
const anybody = (): boolean => true;
const failure = (workerId: string, ...peers: string[]): LinkFailure => ({ workerId, peers });

/** name, failures of each of three generations, who may leave, who is left out */
const CASES: readonly [string, readonly LinkFailure[][], (workerId: string) => boolean, string | undefined][] = [
  ['of two ends the higher rank', [[failure('b', 'c'), failure('c', 'b')]], anybody, 'c'],
  ['who is named most', [[failure('b', 'c'), failure('c', 'b'), failure('a', 'b'), failure('d', 'b')]], anybody, 'b'],
  ['failures without peers', [[failure('a')], [failure('a')], [failure('d')]], anybody, 'a'],
  ['one that can be spared', [[failure('b', 'c'), failure('c', 'b')]], (id) => id !== 'c', 'b'],
  ['nobody where none can', [[failure('b', 'c')]], () => false, undefined],
  ['nobody who is no member any more', [[failure('x', 'y')]], anybody, undefined],
];

describe('BrokenLinks', () => {
  for (const [name, generations, mayLeave, expected] of CASES)
    test(`leaves out ${name}`, () => {
      const rule = new BrokenLinks();
      const of = (i: number): LinkFailure[] => generations[Math.min(i, generations.length - 1)]!;
      assert.equal(rule.broke(4, of(0), MEMBERS, mayLeave), undefined);
      assert.equal(rule.broke(4, of(1), MEMBERS, mayLeave), undefined);
      const leftOut = rule.broke(4, of(2), MEMBERS, mayLeave);
      assert.equal(leftOut?.workerId, expected);
      if (leftOut !== undefined)
        assert.match(leftOut.reason, /^3 generations in a row broke on their links after step 4/u);
    });

  test('leaves out a member on trial after the first generation, and nobody else', () => {
    const rule = new BrokenLinks();
    const onTrial = (id: string): boolean => id === 'b';
    assert.equal(rule.broke(4, [failure('c', 'd')], MEMBERS, anybody, onTrial), undefined);
    const leftOut = new BrokenLinks().broke(4, [failure('c', 'b'), failure('d', 'b', 'c')], MEMBERS, anybody, onTrial);
    assert.equal(leftOut?.workerId, 'b');
    assert.match(leftOut.reason, /^1 generation broke on its links after step 4/u);
    assert.equal(
      new BrokenLinks().broke(4, [failure('c', 'b')], MEMBERS, (id) => id !== 'b', onTrial),
      undefined,
    );
  });

  test('a committed step starts the count anew, and so does another ending', () => {
    const rule = new BrokenLinks();
    const failures = [failure('a', 'b')];
    for (const step of [1, 1, 2, 2]) assert.equal(rule.broke(step, failures, MEMBERS, anybody), undefined);
    rule.forget();
    assert.equal(rule.broke(2, failures, MEMBERS, anybody), undefined);
    assert.equal(rule.broke(2, failures, MEMBERS, anybody), undefined);
    assert.equal(rule.broke(2, failures, MEMBERS, anybody)?.workerId, 'b');
    assert.equal(rule.broke(2, failures, MEMBERS, anybody), undefined);
  });
});
