import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { judgeProofs } from './state-proofs.ts';

const reportsOf = (digests: string) => Array.from(digests, (digest, rank) => ({ rank, digest }));

/** digests in rank order, that of the checkpoint, the verdict, who is wrong */
const CASES: readonly [string, string | undefined, string, (readonly number[])?][] = [
  ['aaa', undefined, 'agree'],
  ['aba', undefined, 'outliers', [1]],
  ['ab', undefined, 'no-majority'],
  ['aaa', 'a', 'agree'],
  ['bba', 'a', 'outliers', [0, 1]],
  ['ab', 'a', 'outliers', [1]],
  ['bbb', 'a', 'no-majority'],
];

describe('judgeProofs', () => {
  for (const [digests, expected, kind, wrong] of CASES)
    test(`${digests} where ${expected ?? 'nothing'} is expected: ${kind}`, () => {
      const verdict = judgeProofs(reportsOf(digests), expected);
      assert.equal(verdict.kind, kind);
      if (verdict.kind === 'outliers') assert.deepEqual(verdict.ranks, wrong);
    });

  test('names what was expected', () => {
    const verdict = judgeProofs(reportsOf('bbb'), 'a');
    assert.ok(verdict.kind === 'no-majority');
    assert.match(verdict.reason, /nobody has a, the digest of the checkpoint/u);
  });

  test('where nobody has what is expected nobody is right, whatever the majority', () => {
    assert.equal(judgeProofs(reportsOf('bbc'), 'a').kind, 'no-majority');
  });
});
