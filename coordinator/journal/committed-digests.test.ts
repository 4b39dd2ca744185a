import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { addDigest, digestOf, keepDigests, MAX_DIGESTS, type CommittedDigests } from './committed-digests.ts';
import { applyRecord, EMPTY_JOURNAL_STATE, type JournalRecord, type JournalState } from './journal-records.ts';

const opened = (epoch: number, step: number, seed = 1): JournalRecord => ({
  kind: 'run-opened',
  epoch,
  configHash: 'c0',
  seed,
  mixtureHash: 'm',
  step,
});
const formed = (epoch: number, engineFingerprint: string): JournalRecord => ({
  kind: 'generation-formed',
  epoch,
  generation: 1,
  firstStep: 1,
  members: ['a'],
  lanes: [[0, 1]],
  engineFingerprint,
});
const committed = (epoch: number, step: number, gradDigest = 100 + step): JournalRecord => ({
  kind: 'step-committed',
  epoch,
  generation: 1,
  step,
  cursor: {},
  gradDigest,
  loss: 1,
});
const published = (step: number): JournalRecord => ({
  kind: 'checkpoint-published',
  step,
  path: 'p',
  paramDigest: 'ab',
});

function replay(...records: JournalRecord[]): JournalState {
  return records.reduce<JournalState>((state, record) => {
    const next = applyRecord(state, record);
    if (typeof next === 'string') throw new Error(next);
    return next;
  }, EMPTY_JOURNAL_STATE);
}
const stepsOf = ({ digests }: JournalState): number[] =>
  [1, 2, 3].filter((step) => digestOf(digests, step) === 100 + step);

describe('digests of committed steps', () => {
  test('belong to the newest commit of each step', () => {
    let digests: CommittedDigests | undefined;
    for (const [step, digest] of [
      [1, 11],
      [2, 12],
      [1, 21],
    ] as const)
      digests = addDigest(digests, step, digest);
    assert.deepEqual([digestOf(digests, 1), digestOf(digests, 2), digestOf(digests, 3)], [21, 12, undefined]);
    const kept = keepDigests(digests, (step) => step === 2);
    assert.deepEqual([digestOf(kept, 1), digestOf(kept, 2)], [undefined, 12]);
    assert.equal(digestOf(undefined, 1), undefined);
  });

  test('are bounded: the newest are kept', () => {
    let digests: CommittedDigests | undefined;
    for (let step = 1; step <= 3 * MAX_DIGESTS; step++) digests = addDigest(digests, step, step);
    assert.ok(digests!.length <= MAX_DIGESTS);
    const newest = 3 * MAX_DIGESTS;
    for (const step of [newest, newest - MAX_DIGESTS / 2 + 1]) assert.equal(digestOf(digests, step), step);
  });

  const begun = [opened(1, 0), formed(1, 'e'), committed(1, 1), committed(1, 2), committed(1, 3)];

  test('a checkpoint removes those of its steps', () => {
    assert.deepEqual(stepsOf(replay(...begun, published(2))), [3]);
  });

  test('a new epoch at an earlier step keeps them', () => {
    assert.deepEqual(stepsOf(replay(...begun, opened(2, 1), formed(2, 'e'), committed(2, 2))), [1, 2, 3]);
  });

  const CASES: readonly [string, readonly JournalRecord[], readonly number[]][] = [
    ['another seed', [opened(2, 0, 2)], []],
    ['another engine', [opened(2, 0), formed(2, 'other')], []],
    [
      'rates that change in a step',
      [{ kind: 'rates-changed', epoch: 1, window: 1, firstStep: 2, rates: {}, denoisingRatio: 1, reason: '' }],
      [1],
    ],
  ];
  for (const [name, records, expected] of CASES)
    test(`${name} removes those of steps that get other gradients`, () =>
      assert.deepEqual(stepsOf(replay(...begun, ...records)), expected));
});
