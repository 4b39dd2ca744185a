import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';
import type { MessageOf } from '../../shared/protocol/messages.ts';
import { EPOCH, ScriptedRoster, type ScriptedHandle } from '../testing/scripted-handle.fixture.ts';
import { judgeTrial } from './link-trials.ts';

const FIRST_PAUSE_MS = 30_000;

describe('judgeTrial', () => {
  const [w, a, b, late] = ['w', 'a', 'b', 'late'].map((workerId) => ({ workerId, isGone: false })) as [
    Person,
    Person,
    Person,
    Person,
  ];
  type Person = { workerId: string; isGone: boolean };
  const gone = { workerId: 'gone', isGone: true };
  const works = (...people: Person[]): [Person, string | undefined][] => people.map((person) => [person, undefined]);
  for (const [what, participants, answers, isLate, members, verdict] of [
    ['waits for all answers', [w, a, b], works(w, a), false, [a, b], { kind: 'wait' }],
    ['waits for the others after a fault', [w, a, b], [[a, 'no link to w']], false, [a, b], { kind: 'wait' }],
    ['passes the worker if all links work', [w, a, b], works(w, a, b), false, [a, b], { kind: 'passed' }],
    ['counts answers that are there at the deadline', [w, a], works(w, a), true, [a], { kind: 'passed' }],
    ['ignores a member that has left', [w, a, b], works(w, a, b), false, [a], { kind: 'passed' }],
    ['is void if a member was not in it', [w, a], works(w, a), false, [a, late], { kind: 'void' }],
    ['is void if one of those in it is lost', [w, a, gone], works(w, a), true, [a], { kind: 'void' }],
    [
      'fails by a fault that a member saw',
      [w, a],
      [...works(w), [a, 'no link to w']],
      false,
      [a],
      { kind: 'failed', reason: 'a: no link to w' },
    ],
    [
      'names one fault and counts the others',
      [w, a, b],
      [
        [w, 'no link to a'],
        [a, 'no link to w'],
      ],
      true,
      [a, b],
      { kind: 'failed', reason: 'w: no link to a; and 2 more' },
    ],
    ['fails at the deadline', [w, a], works(a), true, [a], { kind: 'failed', reason: 'w: no answer' }],
  ] as [string, Person[], [Person, string | undefined][], boolean, Person[], object][])
    test(what, () => {
      assert.deepEqual(judgeTrial({ participants, answers: new Map(answers), isLate }, members), verdict);
    });
});

describe('link trials', () => {
  /** Two members, and a worker whose pause is over. */
  async function start() {
    const clock = new ManualClock();
    const room = new ScriptedRoster(clock);
    const [a, b, w] = [room.ready('a'), room.ready('b'), room.ready('w')];
    room.roster.links.leaveOut('w', 'its links break');
    await clock.advance(FIRST_PAUSE_MS);
    const members = [a.handle, b.handle];
    const poll = (): void => room.roster.tryLinks(members);
    const answer = ({ handle: worker }: ScriptedHandle, trial: number, fault?: string): void => {
      const error = fault === undefined ? {} : { error: { code: 'CONNECT_FAILED', message: fault } };
      const message: MessageOf<'links-probed'> = { kind: 'links-probed', epoch: EPOCH, trial, ...error };
      room.roster.handle({ kind: 'message', worker, message });
    };
    const trialsOf = ({ sent }: ScriptedHandle) => sent.filter((message) => message.kind === 'probe-links');
    const standing = () => room.roster.links.standingOf(w.handle);
    const leftOutMs = () => room.log.filter(({ msg }) => msg === 'worker left out').map(({ forMs }) => forMs);
    return { clock, room, members, a, b, w, poll, answer, trialsOf, standing, leftOutMs };
  }

  test('the worker tries its links to all members, and each member the one to it, with one secret', async () => {
    const { a, b, w, poll, trialsOf } = await start();
    poll();
    poll(); // the trial is under way
    const view = (workerId: string, rank: number) => ({ workerId, rank, dataUrl: `memory://${workerId}:1` });
    const [toA, toB, toW] = [a, b, w].map((worker) => {
      const trials = trialsOf(worker);
      assert.equal(trials.length, 1);
      return trials[0]!;
    });
    const shared = { kind: 'probe-links', epoch: EPOCH, trial: 1, secret: toW!.secret };
    assert.deepEqual(toW, { ...shared, rank: 0, peers: [view('a', 1), view('b', 2)] });
    assert.deepEqual(toA, { ...shared, rank: 1, peers: [view('w', 0)] });
    assert.deepEqual(toB, { ...shared, rank: 2, peers: [view('w', 0)] });
    assert.equal(toW.secret.byteLength, 32);
  });

  test('a failed trial leaves the worker out for twice as long; the next one has another number and secret', async () => {
    const { clock, a, b, w, poll, answer, trialsOf, standing, leftOutMs } = await start();
    poll();
    answer(w, 1, 'no link to a');
    answer(a, 1);
    poll();
    assert.equal(standing(), 'unproved', 'b has not answered');
    answer(b, 1);
    poll();
    assert.deepEqual([standing(), leftOutMs()], ['paused', [30_000, 60_000]]);
    await clock.advance(60_000);
    poll();
    const [first, second] = trialsOf(w);
    assert.equal(second?.trial, 2);
    assert.notDeepEqual(first?.secret, second.secret);
    for (const worker of [a, b, w]) answer(worker, 1); // of the trial before
    poll();
    assert.equal(standing(), 'unproved');
    for (const worker of [a, b, w]) answer(worker, 2);
    poll();
    assert.equal(standing(), 'good');
  });

  test('a worker that does not answer is left out again at the deadline, twice `cluster.connectTimeoutMs`', async () => {
    const { clock, room, a, b, poll, answer, standing } = await start();
    poll();
    answer(a, 1);
    answer(b, 1);
    const deadlineMs = 2 * room.config.cluster.connectTimeoutMs;
    await clock.advance(deadlineMs - 1);
    poll();
    assert.equal(standing(), 'unproved');
    await clock.advance(1);
    poll();
    assert.equal(standing(), 'paused');
  });

  test('a proof is that of one connection: the worker that joins anew proves its links again', async () => {
    const { room, a, b, w, poll, answer, standing } = await start();
    poll();
    for (const worker of [a, b, w]) answer(worker, 1);
    poll();
    assert.equal(standing(), 'good');
    const again = room.ready('w');
    assert.equal(room.roster.links.standingOf(again.handle), 'unproved');
    room.roster.links.formed(again.handle);
    assert.equal(room.roster.links.standingOf(again.handle), 'good', 'a generation was formed with it');
  });

  test('one of two workers is tried at a time', async () => {
    const { clock, room, a, b, w, poll, answer, trialsOf } = await start();
    const v = room.ready('v');
    room.roster.links.leaveOut('v', 'its links break');
    await clock.advance(FIRST_PAUSE_MS);
    poll();
    assert.deepEqual([trialsOf(w).length, trialsOf(v).length], [1, 0]);
    for (const worker of [a, b, w]) answer(worker, 1);
    poll();
    poll();
    assert.deepEqual([trialsOf(w).length, trialsOf(v).length], [1, 1]);
  });
});
