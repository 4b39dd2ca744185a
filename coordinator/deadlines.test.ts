import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../shared/errors.ts';
import { findOverdue, type DeadlineState } from './deadlines.ts';

const OPTIONS = { stepTimeoutMs: 1_000, sourceTimeoutMs: 500 };
const NOW_MS = 10_000;
const member = (workerId: string) => ({ workerId, phase: 'compute', toString: () => `worker ${workerId}` });
const MEMBERS = [member('a'), member('b')];
const symptom = { error: new TrainerError('CONNECTION_LOST', 'link to rank 1 is lost'), sinceMs: NOW_MS };

/** name, state, what the error must say and who is left out; undefined: nothing is overdue */
const CASES: readonly [string, DeadlineState, string | undefined, RegExp?, string[]?][] = [
  ['nothing is under way', { members: MEMBERS }, undefined],
  [
    'a step is open within its time',
    { members: MEMBERS, step: { step: 7, sinceMs: NOW_MS - 1_000, missing: [1], stalledMs: 0 } },
    undefined,
  ],
  [
    'a step is open for longer',
    { members: MEMBERS, step: { step: 7, sinceMs: NOW_MS - 1_001, missing: [1], stalledMs: 0 } },
    'COLLECTIVE_TIMEOUT',
    /step 7 is open for 1001 ms .*rank 1 \(compute\)/u,
    ['b'],
  ],
  [
    'a step is open for longer because of a source',
    { members: MEMBERS, step: { step: 7, sinceMs: NOW_MS - 1_400, missing: [1], stalledMs: 400 } },
    undefined,
  ],
  [
    'a step is open for longer than a source excuses',
    { members: MEMBERS, step: { step: 7, sinceMs: NOW_MS - 1_501, missing: [1], stalledMs: 900 } },
    'COLLECTIVE_TIMEOUT',
    /step 7 is open for 1501 ms \(limit 1000, not counting 500 ms without a source\)/u,
    ['b'],
  ],
  [
    'a checkpoint is not written in time',
    { members: MEMBERS, checkpoint: { step: 4, sinceMs: NOW_MS - 1_001, missing: [MEMBERS[0]!] } },
    'WORKER_LOST',
    /a did not write the checkpoint of step 4 within 1000 ms/u,
    ['a'],
  ],
  ['a link broke just now', { members: MEMBERS, symptom }, undefined],
  [
    'a link broke and no cause showed itself',
    { members: MEMBERS, symptom: { ...symptom, sinceMs: NOW_MS - 2_000 } },
    'CONNECTION_LOST',
    /link to rank 1/u,
    [],
  ],
  [
    'a checkpoint is late, and a step as well',
    {
      members: MEMBERS,
      checkpoint: { step: 4, sinceMs: 0, missing: [MEMBERS[0]!] },
      step: { step: 7, sinceMs: 0, missing: [1], stalledMs: 0 },
    },
    'WORKER_LOST',
    /checkpoint of step 4/u,
    ['a'],
  ],
];

describe('deadlines', () => {
  for (const [name, state, code, message, late] of CASES) {
    test(`${code ?? 'nothing'} when ${name}`, () => {
      const overdue = findOverdue(NOW_MS, OPTIONS, state);
      assert.equal(overdue?.error.code, code);
      if (message !== undefined) assert.match(overdue!.error.message, message);
      assert.deepEqual(
        overdue?.late.map(({ workerId }) => workerId),
        late,
      );
    });
  }
});
