import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { TrainerError } from '../../shared/errors.ts';
import type { HeldState } from '../../shared/protocol/messages.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';
import { type RosterInit, Strikes } from './roster.ts';
import {
  EPOCH,
  readyMessage,
  RUN_ID,
  ScriptedRoster,
  type ScriptedHandle,
} from '../testing/scripted-handle.fixture.ts';

const room = (init: Partial<RosterInit> = {}): ScriptedRoster => new ScriptedRoster(new ManualClock(), init);
const heldStep = ({ roster }: ScriptedRoster, { handle }: ScriptedHandle): number | null | undefined =>
  roster.of(handle)?.heldStep;

describe('roster', () => {
  test('a worker receives the run and the committed step, is preparing, and then ready', () => {
    const scripted = room();
    scripted.committedStep = 9;
    const worker = scripted.join('a');
    const [welcome] = worker.sent;
    assert.ok(welcome?.kind === 'welcome');
    assert.deepEqual([welcome.epoch, welcome.runId, welcome.committedStep], [EPOCH, RUN_ID, 9]);
    assert.deepEqual([scripted.roster.preparing, scripted.roster.ready], [[worker.handle], []]);
    scripted.roster.handle({ kind: 'message', worker: worker.handle, message: readyMessage(null) });
    assert.deepEqual(scripted.roster.preparing, []);
    assert.deepEqual(
      scripted.roster.ready.map((ready) => [ready.worker.workerId, ready.heldStep]),
      [['a', null]],
    );
  });

  test('a worker that does not see the run folder is refused, unless it holds the state: then it trains and does not save', async () => {
    const left: [string, string][] = [];
    let open!: (fault: undefined) => void;
    const gate = new Promise<undefined>((resolve) => (open = resolve));
    const scripted = room({
      probe: {
        request: () => ({ path: '/run/checkpoints/.probe-1/coordinator' }),
        findFault: (answer) => (answer?.text === 'the text' ? gate : Promise.resolve('it does not see the run folder')),
        onFault: ({ workerId }, fault) => left.push([workerId, fault]),
      },
    });
    const sees = scripted.ready('sees', null, { probe: { text: 'the text', file: 'x' } });
    const [blind, holder] = [scripted.ready('blind'), scripted.ready('holder', { step: 5 })];
    const [welcome] = sees.sent;
    assert.deepEqual(welcome?.kind === 'welcome' && welcome.probe, { path: '/run/checkpoints/.probe-1/coordinator' });
    assert.equal((await blind.closed).code, 4007);
    const ids = (): string[] => scripted.roster.ready.map(({ worker }) => worker.workerId);
    assert.deepEqual([ids(), scripted.roster.preparing], [['holder'], [sees.handle]]);
    open(undefined);
    await gate;
    assert.deepEqual(ids(), ['holder', 'sees']);
    assert.equal(heldStep(scripted, holder), 5);
    assert.deepEqual(left, [['holder', 'it does not see the run folder']]);
    const refused = scripted.log.filter(({ msg }) => msg === 'worker refused');
    assert.deepEqual(
      refused.map(({ workerId, reason }) => [workerId, reason]),
      [['blind', 'it does not see the run folder']],
    );
    assert.match(scripted.roster.lastFailure, /worker blind .* was refused: it does not see the run folder/u);
  });

  const cases: readonly [string, Partial<HeldState> | null, number, number | null][] = [
    ['of this epoch counts', { step: 5 }, EPOCH, 5],
    ['of an epoch that this one goes on from counts', { step: 5, epoch: 2 }, 2, 5],
    ['of one that went on from that one counts as well', { step: 5, epoch: 3 }, 2, 5],
    [
      'of an epoch before counts for nothing where this one begins from a checkpoint',
      { step: 5, epoch: 3 },
      EPOCH,
      null,
    ],
    ['of an epoch before that one counts for nothing', { step: 5, epoch: 1 }, 2, null],
    ['of an epoch that is still to come counts for nothing', { step: 5, epoch: EPOCH + 1 }, 2, null],
    ['of another run counts for nothing', { step: 5, runId: 'another' }, EPOCH, null],
    ['that is not there is none', null, 2, null],
  ];
  for (const [what, held, heldSince, expected] of cases)
    test(`a state ${what}`, () => {
      const scripted = room({ heldSince });
      assert.equal(heldStep(scripted, scripted.ready('a', held)), expected);
    });

  test('once a worker is ready, the generation sets the step it holds, not the worker', () => {
    const scripted = room();
    const [a, b] = [scripted.ready('a'), scripted.ready('b', { step: 3 })];
    scripted.roster.setHeldStep(a.handle, 6);
    scripted.roster.handle({ kind: 'message', worker: b.handle, message: readyMessage({ step: 100 }) });
    assert.deepEqual([heldStep(scripted, a), heldStep(scripted, b)], [6, 3]);
    scripted.roster.setHeldStep(a.handle, null);
    assert.equal(heldStep(scripted, a), null);
  });

  test('a state that differs from the others’ does not count, also after the worker dials again, until it is replaced', async () => {
    const scripted = room();
    const before = scripted.ready('a', { step: 5 });
    await scripted.roster.distrust([before.handle.workerId]);
    assert.equal(heldStep(scripted, before), null);
    scripted.lose(before);
    const again = scripted.ready('a', { step: 5 });
    assert.equal(heldStep(scripted, again), null);
    scripted.roster.trustNewState(again.handle, 7);
    assert.equal(heldStep(scripted, again), 7);
    assert.equal(heldStep(scripted, scripted.ready('a', { step: 8 })), 8);
    assert.equal(heldStep(scripted, scripted.ready('b', { step: 5 })), 5, 'others are not meant');
  });

  test('a report of a generation that has ended is passed on; its other answers are not', () => {
    const scripted = room();
    const worker = scripted.ready('a', { step: 5 });
    const report = { kind: 'report' as const, epoch: 3, generation: 2, step: 5, gradDigest: 1, gradSumOfSquares: 1 };
    const ms = { feed: 1, compute: 1, communicate: 1, update: 1, total: 4 };
    scripted.roster.handle({ kind: 'message', worker: worker.handle, message: { ...report, lanes: [], ms } });
    const failed = { kind: 'failed' as const, epoch: 3, generation: 2, error: { code: 'TENSOR_LEAK', message: 'x' } };
    scripted.roster.handle({ kind: 'message', worker: worker.handle, message: failed });
    assert.deepEqual(scripted.lateReports, [['a', 5]]);
    assert.equal(scripted.roster.ready.length, 1);
    assert.equal(worker.isClosed(), false);
  });

  test('a worker that cannot get ready is dropped, and its error is kept for the message of the rendezvous', async () => {
    const scripted = room();
    const worker = scripted.join('a');
    const error = { code: 'ENGINE_UNAVAILABLE', message: 'no GPU' };
    assert.equal(scripted.roster.lastFailure, '');
    const message = { kind: 'failed' as const, epoch: EPOCH, generation: 0, error };
    scripted.roster.handle({ kind: 'message', worker: worker.handle, message });
    assert.equal((await worker.closed).code, 4012);
    assert.equal(scripted.roster.lastFailure, '; worker a (pid 1 on h) said ENGINE_UNAVAILABLE: no GPU');
  });

  test('a worker that gets ready again is not dropped for a failure of an earlier generation', () => {
    const late: unknown[] = [];
    const scripted = room({ onLateSaved: (worker, message) => late.push([worker.workerId, message.generation]) });
    const worker = scripted.join('a');
    const error = { code: 'DISK_FULL', message: 'no room' };
    for (const ids of [
      { epoch: EPOCH, generation: 2 },
      { epoch: EPOCH - 1, generation: 0 },
    ])
      scripted.roster.handle({ kind: 'message', worker: worker.handle, message: { kind: 'failed', ...ids, error } });
    assert.equal(worker.isClosed(), false);
    assert.deepEqual([scripted.roster.preparing, scripted.roster.lastFailure], [[worker.handle], '']);
    assert.deepEqual(late, [
      ['a', 2],
      ['a', 0],
    ]);
  });

  test('a lost worker is removed, ready or not, and that is logged once', () => {
    const scripted = room();
    const [a, b] = [scripted.ready('a'), scripted.join('b')];
    for (const worker of [a, b, a]) {
      scripted.roster.handle({ kind: 'lost', worker: worker.handle, error: new TrainerError('WORKER_LOST', 'gone') });
    }
    assert.deepEqual([scripted.roster.ready, scripted.roster.preparing], [[], []]);
    assert.equal(scripted.log.filter(({ msg }) => msg === 'worker left').length, 2);
  });

  test('a warning about an engine is logged once for all workers that have it', () => {
    const scripted = room();
    for (const workerId of ['a', 'b']) scripted.ready(workerId, null, { engineNotes: ['no AVX-512'] });
    assert.equal(scripted.log.filter(({ msg }) => msg === 'engine not as it could be').length, 1);
  });

  test('three failures in one step exclude a worker: it is dropped, and refused when it comes again', async () => {
    const scripted = room();
    const worker = scripted.ready('a');
    for (const step of [4, 5, 5]) scripted.roster.strike(worker.handle, step, 'it leaks');
    assert.equal(worker.isClosed(), false);
    scripted.roster.strike(worker.handle, 5, 'it leaks');
    assert.equal((await worker.closed).code, 4007);
    const again = scripted.join('a', 2);
    assert.deepEqual(again.sent, []);
    assert.match((await again.closed).reason, /a has failed 3 times in step 5, last: it leaks/u);
    assert.match(scripted.roster.excludedBecause('a') ?? '', /3 times/u);
    assert.equal(scripted.join('b').isClosed(), false);
  });

  test('waiting are the ready workers that are no members', () => {
    const scripted = room();
    const [a, b] = [scripted.ready('a'), scripted.ready('b')];
    scripted.join('c');
    assert.deepEqual(
      scripted.roster.waiting([a.handle]).map(({ worker }) => worker),
      [b.handle],
    );
  });

  test('a worker that is left out stays connected; after 30 s its links are tried, and then it is a candidate again', async () => {
    const clock = new ManualClock();
    const scripted = new ScriptedRoster(clock);
    const [a, b] = [scripted.ready('a'), scripted.ready('b')];
    scripted.roster.links.leaveOut('b', 'its links break');
    const ids = (): string[] => scripted.roster.ready.map(({ worker }) => worker.workerId);
    assert.deepEqual([ids(), b.isClosed()], [['a'], false]);
    await clock.advance(29_999);
    scripted.roster.tryLinks([a.handle]);
    assert.deepEqual([scripted.roster.unproved, b.sent.length], [[], 1]);
    await clock.advance(1);
    assert.deepEqual(
      scripted.roster.unproved.map(({ worker }) => worker),
      [b.handle],
    );
    scripted.roster.tryLinks([a.handle]);
    assert.deepEqual(scripted.roster.waiting([a.handle]), []);
    for (const { handle: worker } of [a, b])
      scripted.roster.handle({
        kind: 'message',
        worker,
        message: { kind: 'links-probed', epoch: EPOCH, trial: 1 },
      });
    scripted.roster.tryLinks([a.handle]);
    assert.deepEqual(ids(), ['a', 'b']);
  });

  test('a worker that is left out and drains is let go', () => {
    const scripted = room();
    const [a, b] = [scripted.ready('a'), scripted.ready('b')];
    scripted.roster.links.leaveOut('b', 'its links break');
    b.handle.drainReason = 'SIGTERM';
    scripted.roster.releaseDraining([a.handle]);
    assert.equal(b.sent.at(-1)?.kind, 'finish');
  });
});

describe('strikes', () => {
  test('three failures in one step exclude a worker, and the reason names the last one', () => {
    const strikes = new Strikes();
    assert.equal(strikes.add('a', 5, 'first'), undefined);
    assert.equal(strikes.add('a', 5, 'second'), undefined);
    assert.equal(strikes.reason('a'), undefined);
    assert.equal(strikes.add('a', 5, 'third'), 'a has failed 3 times in step 5, last: third');
    assert.equal(strikes.reason('a'), 'a has failed 3 times in step 5, last: third');
  });

  test('failures in different steps do not add up: each step starts anew', () => {
    const strikes = new Strikes();
    for (const step of [5, 5, 6, 6, 5, 7, 8]) assert.equal(strikes.add('a', step, 'x'), undefined);
    assert.equal(strikes.reason('a'), undefined);
  });

  test('each worker has a count of its own', () => {
    const strikes = new Strikes();
    for (const workerId of ['a', 'b', 'a', 'b']) assert.equal(strikes.add(workerId, 5, 'x'), undefined);
    assert.match(strikes.add('b', 5, 'x') ?? '', /^b has failed 3 times/u);
    assert.deepEqual([strikes.reason('a'), strikes.reason('c')], [undefined, undefined]);
  });
});
