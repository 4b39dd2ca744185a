import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decideRendezvous, type Candidate } from './rendezvous.ts';

const OPTIONS = { minWorkers: 2, maxWorkers: 4, timeoutMs: 10_000 };
const worker = (workerId: string, state: Candidate['state']): Candidate => ({ workerId, host: 'h', state });

/** name, waited ms, candidates, expected kind, what the reason must say */
const CASES: readonly [string, number, Candidate[], 'wait' | 'form' | 'fail', string][] = [
  ['nobody is there', 0, [], 'wait', '0 of 2 workers joined: waiting for 2 more'],
  ['one is missing', 0, [worker('a', 'ready')], 'wait', 'a on h'],
  ['one still loads', 0, [worker('a', 'ready'), worker('b', 'joined')], 'wait', 'waiting for b on h to load'],
  ['enough are ready', 0, [worker('b', 'ready'), worker('a', 'ready')], 'form', '2 workers ready'],
  [
    'enough are ready but a third still loads',
    0,
    ['a', 'b'].map((w) => worker(w, 'ready')).concat(worker('c', 'joined')),
    'wait',
    'c on h',
  ],
  ['the time is up', 10_000, [worker('a', 'ready')], 'fail', 'after 10 s 1 of 2 workers joined'],
  [
    'enough are ready just as the time is up',
    10_000,
    [worker('a', 'ready'), worker('b', 'ready')],
    'form',
    '2 workers',
  ],
];

describe('rendezvous', () => {
  for (const [name, waitedMs, candidates, kind, reason] of CASES) {
    test(`decides to ${kind} when ${name}`, () => {
      const decision = decideRendezvous(waitedMs, candidates, OPTIONS);
      assert.equal(decision.kind, kind);
      assert.ok(decision.reason.includes(reason), decision.reason);
    });
  }

  test('ranks follow worker ids, and no more than maxWorkers are taken', () => {
    const candidates = ['e', 'c', 'a', 'd', 'b'].map((id) => worker(id, 'ready'));
    const decision = decideRendezvous(0, candidates, OPTIONS);
    assert.deepEqual(decision.kind === 'form' ? decision.workerIds : [], ['a', 'b', 'c', 'd']);
  });
});
