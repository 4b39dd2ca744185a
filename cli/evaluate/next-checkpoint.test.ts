import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decideNext, type FollowedRun } from './next-checkpoint.ts';

const published = [2, 4, 6].map((step) => ({ step, paramDigest: `${step}a` }));
const RUN: FollowedRun = { published, ending: 'open', step: 7 };
const settled =
  (...steps: number[]) =>
  ({ step }: { readonly step: number }): boolean =>
    steps.includes(step);

describe('the next checkpoint of a run that is followed', () => {
  test('is the newest one that is left, and the others are said to wait', () => {
    const all = decideNext(RUN, settled());
    assert.deepEqual(all, {
      kind: 'evaluate',
      checkpoint: published[2],
      reason: 'step 6 is evaluated; steps 2 and 4 wait: this one is newer',
    });
    assert.equal(decideNext(RUN, settled(6, 2)).reason, 'step 4 is evaluated');
    assert.equal(decideNext(RUN, settled(6)).reason, 'step 4 is evaluated; step 2 waits: this one is newer');
  });

  for (const [what, run, expected] of [
    ['has not begun', { published: [], ending: 'none', step: 0 }, ['wait', 'waiting for the run to begin']],
    ['has no checkpoint', { ...RUN, published: [] }, ['wait', 'waiting for the first checkpoint']],
    ['trains', RUN, ['wait', 'waiting for the next checkpoint after step 6']],
    [
      'was interrupted',
      { ...RUN, ending: 'interrupted' },
      ['wait', 'the run was interrupted at step 7; waiting for it to be resumed'],
    ],
    ['has finished', { ...RUN, ending: 'finished' }, ['end', 'the run has finished at step 7']],
  ] as const)
    test(`with nothing left of a run that ${what}`, () => {
      const { kind, reason } = decideNext(run, () => true);
      assert.deepEqual([kind, reason], expected);
    });

  test('a finished run is evaluated to its end', () => {
    assert.equal(decideNext({ ...RUN, ending: 'finished' }, settled(6)).kind, 'evaluate');
  });
});
