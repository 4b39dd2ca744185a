import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { judgeDigests, formatDigest, judgeProofs } from './divergence.ts';

const A = formatDigest(0xa1);
const B = formatDigest(0xb2);
const C = formatDigest(0xc3);
const reportsOf = (...digests: string[]) => digests.map((digest, rank) => ({ rank, digest }));

describe('judgeDigests', () => {
  for (const digests of [[], [A], [A, A], [A, A, A, A]])
    test(`${digests.length} ranks that hold the same agree`, () => {
      assert.deepEqual(judgeDigests(reportsOf(...digests)), { kind: 'agree' });
    });

  test('one of three is wrong, and the sentence names ranks and digests', () => {
    assert.deepEqual(judgeDigests(reportsOf(A, B, A)), {
      kind: 'outliers',
      ranks: [1],
      majority: A,
      reason:
        'rank 1 is wrong: 000000a1 is on 2 of 3 ranks, more than half (000000a1 on ranks 0 and 2; 000000b2 on rank 1)',
    });
  });

  test('ranks that are wrong in different ways are all named, in their order', () => {
    const verdict = judgeDigests(reportsOf(C, A, A, B, A, A));
    assert.ok(verdict.kind === 'outliers');
    assert.deepEqual(verdict.ranks, [0, 3]);
    assert.match(verdict.reason, /^ranks 0 and 3 are wrong: 000000a1 is on 4 of 6 ranks/u);
  });

  for (const [what, digests, groups] of [
    [
      'two that differ',
      [A, B],
      [
        [A, [0]],
        [B, [1]],
      ],
    ],
    [
      'two against two',
      [B, A, A, B],
      [
        [B, [0, 3]],
        [A, [1, 2]],
      ],
    ],
    [
      'half, which is not more than half',
      [C, A, A, B],
      [
        [A, [1, 2]],
        [C, [0]],
        [B, [3]],
      ],
    ],
    [
      'the most, but not more than half',
      [A, A, B, B, C],
      [
        [A, [0, 1]],
        [B, [2, 3]],
        [C, [4]],
      ],
    ],
  ] satisfies [string, string[], [string, number[]][]][])
    test(`${what}: no majority`, () => {
      const verdict = judgeDigests(reportsOf(...digests));
      assert.ok(verdict.kind === 'no-majority');
      assert.deepEqual(
        verdict.groups,
        groups.map(([digest, ranks]) => ({ digest, ranks })),
      );
      assert.match(verdict.reason, /^no rank can be called right or wrong/u);
      for (const digest of digests) assert.ok(verdict.reason.includes(digest));
    });

  test('any digests in any order: outliers are exactly those without the digest of more than half', () => {
    const digests = fc.array(fc.constantFrom(A, B, C), { minLength: 1, maxLength: 9 });
    fc.assert(
      fc.property(digests, fc.nat(), (all, turn) => {
        const reports = reportsOf(...all);
        const turned = [...reports.slice(turn % all.length), ...reports.slice(0, turn % all.length)];
        const verdict = judgeDigests(turned);
        assert.deepEqual(verdict, judgeDigests(reports));
        const majority = [A, B, C].find((digest) => 2 * all.filter((other) => other === digest).length > all.length);
        if (new Set(all).size === 1) assert.equal(verdict.kind, 'agree');
        else if (majority === undefined) assert.equal(verdict.kind, 'no-majority');
        else {
          assert.ok(verdict.kind === 'outliers');
          assert.equal(verdict.majority, majority);
          assert.deepEqual(
            verdict.ranks,
            all.flatMap((digest, rank) => (digest === majority ? [] : [rank])),
          );
        }
      }),
    );
  });

  test('the sentence for a thousand ranks is as short as that for a few dozen', () => {
    const verdict = judgeDigests(reportsOf(...Array.from({ length: 1000 }, (_, rank) => formatDigest(rank % 400))));
    assert.ok(verdict.kind === 'no-majority');
    assert.ok(verdict.reason.length < 2000);
  });
});

const proofsOf = (digests: string) => Array.from(digests, (digest, rank) => ({ rank, digest }));

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
      const verdict = judgeProofs(proofsOf(digests), expected);
      assert.equal(verdict.kind, kind);
      if (verdict.kind === 'outliers') assert.deepEqual(verdict.ranks, wrong);
    });

  test('names the expected digest', () => {
    const verdict = judgeProofs(proofsOf('bbb'), 'a');
    assert.ok(verdict.kind === 'no-majority');
    assert.match(verdict.reason, /no rank has a, the digest of the checkpoint/u);
  });

  test('where no rank has the expected digest there is no majority, whatever most ranks hold', () => {
    assert.equal(judgeProofs(proofsOf('bbc'), 'a').kind, 'no-majority');
  });
});
