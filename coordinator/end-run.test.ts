import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../shared/errors.ts';
import { planRewind } from './end-run.ts';
import type { ResumePoint } from './resume/resume-point.ts';

const CHECKPOINT: ResumePoint = { kind: 'newest-checkpoint' };

describe('planRewind', () => {
  const divergence = new TrainerError('GRADIENT_DIVERGED', 'step 8 differs');
  const CASES: readonly [string, (number | null)[], number, TrainerError | undefined, ResumePoint][] = [
    ['the furthest state that is held', [5, null, 7], 3, undefined, { kind: 'held-step', step: 7 }],
    ['the checkpoint, where nobody holds more', [3, 2], 3, undefined, CHECKPOINT],
    ['the checkpoint, where nobody holds anything', [null], 0, undefined, CHECKPOINT],
    ['the checkpoint, where ranks differed', [5, 7], 3, divergence, CHECKPOINT],
  ];
  for (const [name, held, loadableStep, differed, expected] of CASES)
    test(`goes back to ${name}`, () => {
      const rewind = planRewind('all are gone', { held, loadableStep, divergence: differed });
      assert.deepEqual(rewind.resumeAt, expected);
      assert.equal(rewind.divergence, differed);
      assert.match(rewind.reason, differed === undefined ? /^all are gone$/u : /^all are gone: step 8 differs$/u);
    });
});
