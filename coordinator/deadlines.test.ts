import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../shared/errors.ts';
import { findOverdue, type DeadlineState } from './deadlines.ts';

const OPTIONS = { heartbeatTimeoutMs: 100, stepTimeoutMs: 1_000, sourceTimeoutMs: 500 };
const NOW_MS = 10_000;
const member = (workerId: string, lastHeardMs = NOW_MS) => ({
  workerId,
  phase: 'compute',
  lastHeardMs,
  toString: () => `worker ${workerId}`,
});
const MEMBERS = [member('a'), member('b')];
const symptom = { error: new TrainerError('CONNECTION_LOST', 'link to rank 1 is lost'), sinceMs: NOW_MS };

/** name, state, what the error must say; undefined: nothing is overdue */
const CASES: readonly [string, DeadlineState, string | undefined, RegExp?][] = [
  ['everybody was heard of', { members: MEMBERS }, undefined],
  ['a member is silent just as long as it may', { members: [member('a', NOW_MS - 100)] }, undefined],
  [
    'a member is silent for longer',
    { members: [member('a'), member('b', NOW_MS - 101)] },
    'WORKER_LOST',
    /rank 1, worker b, has been silent for 101 ms \(limit 100\)/u,
  ],
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
  ],
  [
    'a checkpoint is not written in time',
    { members: MEMBERS, checkpoint: { step: 4, sinceMs: NOW_MS - 1_001, missing: [MEMBERS[0]!] } },
    'WORKER_LOST',
    /a did not write the checkpoint of step 4 within 1000 ms/u,
  ],
  ['a link broke just now', { members: MEMBERS, symptom }, undefined],
  [
    'a link broke and no cause showed itself',
    { members: MEMBERS, symptom: { ...symptom, sinceMs: NOW_MS - 2_000 } },
    'CONNECTION_LOST',
    /link to rank 1/u,
  ],
  ['a link broke and a member is silent', { members: [member('a', 0)], symptom }, 'WORKER_LOST', /rank 0/u],
];

describe('deadlines', () => {
  for (const [name, state, code, message] of CASES) {
    test(`${code ?? 'nothing'} when ${name}`, () => {
      const overdue = findOverdue(NOW_MS, OPTIONS, state);
      assert.equal(overdue?.code, code);
      if (message !== undefined) assert.match(overdue!.message, message);
    });
  }
});
