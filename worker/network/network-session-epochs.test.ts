/** What outlives a coordinator, and what ends with it. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import type { Member, WorkerMessage } from '../../shared/protocol/messages.ts';
import { toCloseCode } from '../../shared/transport/close-codes.ts';
import type { ScriptedPeer } from '../scripted-coordinator.fixture.ts';
import {
  abort,
  EPOCH,
  form,
  formOf,
  formAll,
  ids,
  open,
  save,
  welcome,
  type Opened,
} from '../network/network-session.fixture.ts';
import type { NetworkRequest } from '../network/network-messages.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';

const PLANS_AHEAD = 3;

interface Managed extends Opened {
  readonly clock: ManualClock;
  readonly members: readonly Member[];
}

async function openFormed(t: TestContext, numWorkers = 1): Promise<Managed> {
  const clock = new ManualClock();
  const opened = await open(t, numWorkers, clock);
  const members = await form(opened.peers);
  return { ...opened, clock, members };
}

/** Breaks the line of a worker. @returns its next connection, joined and not welcomed */
async function redialled({ coordinator, clock }: Managed, peer: ScriptedPeer): Promise<ScriptedPeer> {
  peer.close('CONNECTION_LOST', 'killed');
  for (let ms = 0; ms < 100; ms += 10) await clock.advance(10);
  const next = await coordinator.peer();
  await next.receive('join');
  return next;
}

async function train({ subjects }: Opened, steps: readonly number[]): Promise<void> {
  for (const step of steps) {
    await Promise.all(subjects.map((subject) => subject.computeStep(step)));
    await Promise.all(subjects.map((subject) => subject.report(step)));
  }
}

const reported = ({ received }: ScriptedPeer): [number, number][] =>
  received.flatMap((message) => (message.kind === 'report' ? [[message.epoch, message.step] as [number, number]] : []));

/** Once all that was received before has arrived. */
async function heardAll(peer: ScriptedPeer, { subject, clock }: Managed, epoch: number): Promise<void> {
  subject.session.handleRequest({
    kind: 'failed',
    epoch,
    generation: 0,
    error: { code: 'INTERNAL', message: 'the last word' },
  });
  await clock.advance(0);
  assert.equal((await peer.receive('failed')).error.message, 'the last word');
}

describe('network session over coordinators', { timeout: 240_000 }, () => {
  test('without a coordinator, dealt steps are trained, and the next coordinator gets their reports', async (t) => {
    const opened = await openFormed(t, 2);
    const { subjects, peers, clock } = opened;
    await train(opened, [1]);
    for (const peer of peers) await peer.receive('report');
    const next = [await redialled(opened, peers[0]!), await redialled(opened, peers[1]!)];
    await train(opened, [2, 3]);
    await clock.advance(0);
    for (const peer of next) assert.deepEqual(peer.received.length, 1, 'nothing but the join before it welcomes');
    for (const peer of next) peer.send(welcome(EPOCH + 1, { committedStep: 1 }));
    for (const [rank, peer] of next.entries()) {
      const reports = [await peer.receive('report'), await peer.receive('report')];
      assert.deepEqual(
        reports.map(({ epoch, generation, step }) => [epoch, generation, step]),
        [2, 3].map((step) => [EPOCH, 2, step]),
      );
      await subjects[rank]!.emitted('welcome', ({ epoch }) => epoch === EPOCH + 1);
      assert.ok(reports.every(({ gradSumOfSquares }) => gradSumOfSquares > 0));
    }
    assert.deepEqual(subjects[0]!.all('generation-failed'), []);
  });

  test('a report that was sent is sent again where the welcome does not call it committed', async (t) => {
    const opened = await openFormed(t);
    await train(opened, [1, 2, 3]);
    const next = await redialled(opened, opened.peer);
    next.send(welcome(EPOCH, { committedStep: 2 }));
    await next.receive('report');
    await heardAll(next, opened, EPOCH);
    assert.deepEqual(reported(next), [[EPOCH, 3]]);
    const third = await redialled(opened, next);
    third.send(welcome(EPOCH + 1, { committedStep: 3 }));
    await opened.subject.emitted('welcome', ({ epoch }) => epoch === EPOCH + 1);
    await heardAll(third, opened, EPOCH + 1);
    assert.deepEqual(reported(third), []);
  });

  test('never more reports are kept than steps are dealt ahead', async (t) => {
    const opened = await openFormed(t);
    await train(opened, [1, 2, 3, 4, 5, 6, 7]);
    const next = await redialled(opened, opened.peer);
    next.send(welcome(EPOCH + 1));
    await opened.subject.emitted('welcome', ({ epoch }) => epoch === EPOCH + 1);
    await heardAll(next, opened, EPOCH + 1);
    assert.deepEqual(
      reported(next),
      [5, 6, 7].slice(-PLANS_AHEAD).map((step) => [EPOCH, step]),
    );
  });

  test('a step that is done again takes the place of the report from before, and of all later ones', async (t) => {
    const opened = await openFormed(t);
    await train(opened, [1, 2, 3]);
    const next = await redialled(opened, opened.peer);
    const { members } = opened;
    const ids6 = { epoch: EPOCH + 1, generation: 1 };
    next.send(welcome(ids6.epoch));
    await formAll([next], members, { ...ids6, firstStep: 2 });
    await opened.subject.computeStep(2);
    await opened.clock.advance(0);
    await opened.subject.report(2);
    const third = await redialled(opened, next);
    third.send(welcome(EPOCH + 2));
    await opened.subject.emitted('welcome', ({ epoch }) => epoch === EPOCH + 2);
    await heardAll(third, opened, EPOCH + 2);
    assert.deepEqual(reported(third), [
      [EPOCH, 1],
      [EPOCH + 1, 2],
    ]);
  });

  for (const [what, epoch] of [
    ['of a new epoch', EPOCH + 1],
    ['of the same epoch, after the line broke', EPOCH],
  ] as const)
    test(`a second welcome ${what} ends the generation: its links close, and nothing of it is received any more`, async (t) => {
      const opened = await openFormed(t, 2);
      const { subjects, peers, clock } = opened;
      await subjects[0]!.computeStep(1);
      const next = await redialled(opened, peers[0]!);
      assert.deepEqual(subjects[1]!.all('generation-failed'), [], 'the generation outlives the line');
      next.send(welcome(epoch));
      const { error } = await subjects[1]!.emitted('generation-failed');
      assert.equal(error.code, 'CONNECTION_LOST');
      assert.equal((await peers[1]!.receive('failed')).error.code, 'CONNECTION_LOST');
      for (const request of [
        { kind: 'bucket-ready', bucket: 0 },
        { kind: 'begin-step', step: 2 },
        { kind: 'state-in-place', generation: 2 },
      ] satisfies NetworkRequest[])
        subjects[0]!.session.handleRequest(request);
      await clock.advance(0);
      assert.deepEqual(subjects[0]!.kinds(), ['welcome', 'form', 'formed', 'welcome']);
      assert.deepEqual(
        next.received.map(({ kind }) => kind),
        ['join'],
      );
    });

  test('after a second welcome in the same epoch a later generation is formed, an earlier one is not', async (t) => {
    const opened = await openFormed(t);
    const { members } = opened;
    const next = await redialled(opened, opened.peer);
    next.send(welcome());
    await formAll([next], members, { generation: 3 });
    next.send({ ...abort, generation: 3 });
    const last = await redialled(opened, next);
    last.send(welcome());
    last.send({ ...save, generation: 3 });
    await opened.subject.emitted('save');
    last.send({ ...abort, generation: 2 }); // it is over: ignored
    last.send(formOf(members, 0, { generation: 2 }));
    assert.equal((await last.closed).code, toCloseCode('MESSAGE_INVALID'));
  });

  test('a generation that fails before a welcome is not reported to the next coordinator', async (t) => {
    const opened = await openFormed(t, 2);
    const { subjects, peers, clock } = opened;
    const next = await redialled(opened, peers[0]!);
    subjects[1]!.session.handleRequest({ kind: 'leave', reason: 'dies' });
    await subjects[0]!.emitted('generation-failed');
    await clock.advance(0);
    next.send(welcome(EPOCH + 1));
    await subjects[0]!.emitted('welcome', ({ epoch }) => epoch === EPOCH + 1);
    await heardAll(next, opened, EPOCH + 1);
    assert.deepEqual(
      next.received.map(({ kind }) => kind),
      ['join', 'failed'],
    );
  });

  test('answers to a coordinator whose epoch is over are dropped, also before the next one welcomes', async (t) => {
    const opened = await openFormed(t);
    const { subject, clock } = opened;
    const digest = 'cd'.repeat(32);
    const engine = { engine: 'wasm', engineFingerprint: 'f', mixtureHash: digest, numParameters: 1 };
    const answers: Extract<NetworkRequest, WorkerMessage>[] = [
      { kind: 'ready', epoch: EPOCH, held: null, ...engine },
      { kind: 'saved', ...ids, step: 3, files: [], paramDigest: digest },
      { kind: 'not-finite', ...ids, step: 3, reason: 'r', losses: [] },
      { kind: 'aborted', ...ids, step: 3 },
      { kind: 'failed', ...ids, error: { code: 'DISK_FULL', message: 'no room' } },
    ];
    const next = await redialled(opened, opened.peer);
    for (const answer of answers) subject.session.handleRequest(answer);
    await clock.advance(0);
    next.send(welcome(EPOCH + 1));
    await subject.emitted('welcome', ({ epoch }) => epoch === EPOCH + 1);
    for (const answer of answers) subject.session.handleRequest(answer);
    await heardAll(next, opened, EPOCH + 1);
    assert.deepEqual(
      next.received.map(({ kind }) => kind),
      ['join', 'failed'],
    );
  });

  for (const [what, message, reason] of [
    [
      'of an epoch that is over',
      welcome(EPOCH - 1),
      /expected a coordinator of epoch 5 or later, found one of epoch 4/u,
    ],
    [
      'of another run',
      welcome(EPOCH + 1, { runId: 'other' }),
      /expected the coordinator of run the run, found that of other/u,
    ],
  ] as const)
    test(`a coordinator ${what} is refused, for good`, async (t) => {
      const opened = await openFormed(t);
      const next = await redialled(opened, opened.peer);
      next.send(message);
      const { error } = await opened.subject.emitted('lost');
      assert.equal(error.code, 'JOIN_REFUSED');
      assert.match(error.message, reason);
      assert.equal((await next.closed).code, toCloseCode('JOIN_REFUSED'));
      assert.equal(opened.subject.all('welcome').length, 1);
    });

  test('a wait for a coordinator is reported, and its loss when the grace is over', async (t) => {
    const opened = await openFormed(t);
    const { subject, coordinator, clock } = opened;
    opened.peer.close('CONNECTION_LOST', 'killed');
    await coordinator.close();
    await clock.advance(0);
    assert.match(subject.all('waiting')[0]!.reason, /killed; dialling again for 60000 ms/u);
    for (let i = 0; i < 58; i++) await clock.advance(1_000);
    assert.deepEqual(subject.all('lost'), []);
    for (let i = 0; i < 3; i++) await clock.advance(1_000);
    assert.equal(subject.all('lost')[0]?.error.code, 'CONNECT_FAILED');
  });
});
