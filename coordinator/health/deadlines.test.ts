import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import { findOverdue, type DeadlineState, StalledTime } from './deadlines.ts';
import { createLogger } from '../../shared/logger.ts';
import { StallLog } from '../membership/worker-handle.ts';

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

describe('the wait of a worker for its source', () => {
  test('is logged at its beginning, when the reason changes, every ten seconds, and at its end', () => {
    const told: unknown[][] = [];
    const log = createLogger({
      onRecord: (record) => told.push([record.msg, record['workerId'], record['forMs'], record['reason']]),
    });
    const stalls = new StallLog(log, 'w1');
    stalls.update(undefined);
    for (let forMs = 3_000; forMs <= 21_000; forMs += 1_000)
      stalls.update({ reason: forMs < 5_000 ? 'no answer yet' : '503', forMs });
    stalls.update(undefined);
    stalls.update(undefined);
    assert.deepEqual(told, [
      ['worker waits for its source', 'w1', 3_000, 'no answer yet'],
      ['worker waits for its source', 'w1', 5_000, '503'],
      ['worker waits for its source', 'w1', 15_000, '503'],
      ['worker has its source again', 'w1', 15_000, undefined],
    ]);
  });

  test('excuses only its own time, and only in the step that was open then', () => {
    const stalled = new StalledTime();
    const members = [{ stall: undefined }, { stall: { reason: '503', forMs: 1 } }];
    assert.equal(stalled.poll(1_000, 7, members, [1]), 0);
    assert.equal(stalled.poll(1_200, 7, members, [1]), 200);
    assert.equal(stalled.poll(1_900, 7, members, [0]), 200);
    assert.equal(stalled.poll(2_000, 7, members, [1]), 300);
    assert.equal(stalled.poll(2_500, 8, members, [1]), 0);
    assert.equal(stalled.poll(2_600, 8, members, [1]), 100);
  });
});
