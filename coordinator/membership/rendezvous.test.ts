import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { decideRendezvous, type Candidate, type RendezvousDecision, type RendezvousOptions } from './rendezvous.ts';

/** Once somebody has trained, and the newest checkpoint has it all. */
const OPTIONS: RendezvousOptions = {
  needed: 2,
  isStart: false,
  needsHolder: false,
  awaited: [],
  awaitMs: 5_000,
  timeoutMs: 10_000,
};
const START = { isStart: true };
const HOLDER = { needsHolder: true };
const ready = (workerId: string, isHolder = false): Candidate => ({ workerId, host: 'h', state: 'ready', isHolder });
const loading = (workerId: string): Candidate => ({ workerId, host: 'h', state: 'joined', isHolder: false });

type Case = readonly [
  name: string,
  waitedMs: number,
  candidates: readonly Candidate[],
  kind: RendezvousDecision['kind'],
  reason: string,
  options?: Partial<RendezvousOptions>,
];

const CASES: readonly Case[] = [
  ['nobody is there', 0, [], 'wait', '0 of 2 workers joined: waiting for 2 more', START],
  ['one is missing', 0, [ready('a')], 'wait', '1 of 2 workers joined (a on h): waiting for 1 more', START],
  ['one still loads', 0, [ready('a'), loading('b')], 'wait', 'waiting for b on h to load', START],
  ['enough are ready', 0, [ready('b'), ready('a')], 'form', '2 workers ready, 2 needed', START],
  [
    'enough are ready at the start and a third still loads',
    0,
    [ready('a'), ready('b'), loading('c')],
    'wait',
    'c on h',
    START,
  ],
  ['enough are ready later and a third still loads', 0, [ready('a'), ready('b'), loading('c')], 'form', '2 workers'],
  ['too few are ready later', 0, [ready('a'), loading('b')], 'wait', '1 of 2 workers ready: waiting for b on h'],

  ['the time is up', 10_000, [ready('a')], 'fail', 'after 10 s 1 of 2 workers joined'],
  ['the time is up and one still loads', 10_000, [ready('a'), loading('b')], 'fail', 'waiting for b on h to load'],
  ['it is a moment before that', 9_999, [ready('a')], 'wait', '1 of 2'],
  ['enough are ready just as the time is up', 10_000, [ready('a'), ready('b')], 'form', '2 workers'],

  [
    'members of before are not back yet',
    4_999,
    [ready('a', true), ready('b', true)],
    'wait',
    '2 workers ready: waiting for c and d to come back',
    { awaited: ['a', 'b', 'c', 'd'] },
  ],
  [
    'a member of before is back and still loads',
    0,
    [ready('a', true), ready('b', true), loading('c')],
    'wait',
    'waiting for c to come back',
    { awaited: ['a', 'c'] },
  ],
  [
    'those that do not come back were awaited long enough',
    5_000,
    [ready('a'), ready('b')],
    'form',
    '2 workers',
    { awaited: ['c'] },
  ],
  ['everybody awaited is back', 0, [ready('a', true), ready('b', true)], 'form', '2 workers', { awaited: ['b', 'a'] }],
  [
    'fewer than needed are there, awaited or not',
    6_000,
    [ready('a', true)],
    'wait',
    '1 of 2 workers',
    { awaited: ['c'] },
  ],

  ['one of them holds the state', 0, [ready('a'), ready('b', true)], 'form', '2 workers ready', HOLDER],
  [
    'nobody holds the state',
    0,
    [ready('a'), ready('b')],
    'rewind',
    'none of 2 ready workers holds the state of the last step',
    HOLDER,
  ],
  [
    'nobody holds the state yet and a holder may come back',
    4_999,
    [ready('a'), ready('b')],
    'wait',
    'waiting for c to come back',
    { ...HOLDER, awaited: ['c'] },
  ],
  [
    'no holder has come back in time',
    5_000,
    [ready('a'), ready('b')],
    'rewind',
    'none of 2 ready workers',
    { ...HOLDER, awaited: ['c'] },
  ],
  ['nobody holds a state that a checkpoint has', 0, [ready('a'), ready('b')], 'form', '2 workers'],
  ['nobody holds the state and too few are there', 0, [ready('a')], 'wait', '1 of 2 workers joined', HOLDER],
];

describe('rendezvous', () => {
  for (const [name, waitedMs, candidates, kind, reason, options] of CASES)
    test(`decides to ${kind} when ${name}`, () => {
      const decision = decideRendezvous(waitedMs, candidates, { ...OPTIONS, ...options });
      assert.equal(decision.kind, kind);
      assert.ok(decision.reason.includes(reason), decision.reason);
    });
});
