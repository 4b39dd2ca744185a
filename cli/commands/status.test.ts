import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { describeUnanswered } from './status.ts';

describe('the phase of a run whose coordinator does not answer', () => {
  const OWNER = 'process 7 on host-a, started 2026-11-30T22:00:00.000Z';
  const UNANSWERED = 'no coordinator answers at http://host-a:7070';
  for (const [what, ending, lock, phase] of [
    ['finished', 'finished', undefined, /^finished$/u],
    ['interrupted, with a lock', 'interrupted', { owner: OWNER, death: undefined }, /^interrupted$/u],
    ['dead without a lock', 'open', undefined, /^not running \(ended without a record of its end\)$/u],
    [
      'dead by its lock',
      'open',
      { owner: OWNER, death: 'that process is gone' },
      /^not running .*that process is gone/u,
    ],
    [
      'perhaps alive',
      'open',
      { owner: OWNER, death: undefined },
      /^not reached \(no coordinator answers.*host-a.*may still/u,
    ],
  ] as const)
    test(`is told as ${what}`, () => {
      assert.match(describeUnanswered(ending, lock, UNANSWERED), phase);
    });
});
