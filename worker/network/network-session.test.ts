import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ErrorCode } from '../../shared/errors.ts';
import { encodeMessage } from '../../shared/protocol/codec.ts';
import { PROTOCOL_VERSION, type CoordinatorMessage } from '../../shared/protocol/messages.ts';
import { toCloseCode } from '../../shared/transport/close-codes.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import { checksumNaively } from '../collective/lane-gradients.fixture.ts';
import {
  abort,
  deal,
  form,
  formOf,
  ids,
  laneSum,
  MS,
  nobody,
  open,
  save,
  Subject,
  TOKEN,
  welcome,
  welcomeAll,
} from './network-session.fixture.ts';
import type { NetworkData } from './network-messages.ts';
import { ManualClock } from '../../shared/manual-clock.fixture.ts';

describe('network session', { timeout: 240_000 }, () => {
  test('joins with its name, its data port and the protocol it speaks', async (t) => {
    const { peer } = await open(t);
    const { workerId, protocolVersion, pid, dataUrl } = await peer.receive('join');
    assert.deepEqual(
      { workerId, protocolVersion, pid },
      { workerId: 'w0', protocolVersion: PROTOCOL_VERSION, pid: process.pid },
    );
    assert.match(dataUrl, /^memory:\/\/127\.0\.0\.1:\d+$/u);
  });

  test('a welcome is passed on, and heartbeats then carry the compute thread’s progress', async (t) => {
    const clock = new ManualClock();
    const { peer, subject } = await open(t, 1, clock);
    await peer.receive('join');
    peer.send(welcome());
    const event = await subject.emitted('welcome');
    assert.deepEqual([event.committedStep, event.preparedFolder, event.runId], [0, '/prepared', 'the run']);
    await clock.advance(0);
    subject.progress.advance('compute', 41);
    await clock.advance(100);
    await clock.advance(50);
    await clock.advance(50);
    assert.deepEqual(
      peer.heartbeats.map(({ progress, phase, step }) => [progress, phase, step]),
      [
        [0, 'starting', 0],
        [1, 'compute', 41],
        [1, 'compute', 41],
      ],
    );
  });

  test('a source that does not answer is in the heartbeats until it answers again', async (t) => {
    const clock = new ManualClock();
    const { peer, subject } = await open(t, 1, clock);
    await welcomeAll([peer]);
    await subject.emitted('welcome');
    subject.session.handleRequest({ kind: 'source', stall: { reason: 'bucket: 503', forMs: 40 } });
    await clock.advance(100);
    assert.deepEqual(peer.heartbeats.at(-1)?.stall, { reason: 'bucket: 503', forMs: 140 });
    subject.session.handleRequest({ kind: 'source', stall: null });
    await clock.advance(100);
    assert.equal(peer.heartbeats.at(-1)?.stall, undefined);
  });

  for (const worldSize of [1, 2, 3])
    test(`${worldSize} sessions reduce to the canonical sum, and report its digest and sum of squares alike`, async (t) => {
      const { peers, subjects } = await open(t, worldSize);
      await form(peers);
      for (const step of [1, 2]) {
        await Promise.all(subjects.map((subject) => subject.computeStep(step)));
        const expected = laneSum(step);
        for (const [rank, subject] of subjects.entries()) {
          const { sumOfSquares, firstNonFiniteBytes } = await subject.emitted(
            'reduced',
            (event) => event.step === step,
          );
          assert.equal(firstNonFiniteBytes, null);
          assert.deepEqual(await subject.reduced(), Buffer.from(expected.buffer), `rank ${rank} step ${step}`);
          const lanes = [{ lane: rank, tasks: [], zLoss: 0, inputTokens: 1 }];
          const paramDigest = 'cd'.repeat(32);
          const report = { kind: 'report' as const, ...ids, step, lanes, ms: MS, paramDigest };
          subject.session.handleRequest(report);
          assert.deepEqual(await peers[rank]!.receive('report'), {
            ...report,
            gradDigest: checksumNaively(Buffer.from(expected.buffer)),
            gradSumOfSquares: sumOfSquares,
          });
          const squares = expected.reduce((sum, x) => sum + x * x, 0);
          assert.ok(Math.abs(sumOfSquares / squares - 1) < 1e-12);
        }
      }
    });

  test('answers of the compute thread go to the coordinator as they are', async (t) => {
    const { peer, peers, subject } = await open(t);
    await form(peers);
    const saved = { kind: 'saved' as const, ...ids, step: 3, files: [], paramDigest: 'cd'.repeat(32) };
    const aborted = { kind: 'aborted' as const, ...ids, step: null };
    const losses = [{ lane: 1, task: null, loss: 'NaN' }];
    const notFinite = { kind: 'not-finite' as const, ...ids, step: 4, reason: 'the gradient of x', losses };
    const failed = { kind: 'failed' as const, ...ids, error: { code: 'DISK_FULL' as const, message: 'no room' } };
    for (const request of [saved, notFinite, failed, aborted]) subject.session.handleRequest(request);
    assert.deepEqual(await peer.receive('aborted'), aborted);
    assert.deepEqual(peer.received.slice(-4), [saved, notFinite, failed, aborted]);
  });

  test('commands come out in the order they came in', async (t) => {
    const { peer, peers, subject } = await open(t);
    await form(peers);
    for (const message of [
      deal,
      save,
      { ...deal, step: 2 },
      abort,
      { kind: 'finish' as const, outcome: 'finished' as const, reason: 'done' },
    ])
      peer.send(message);
    await subject.emitted('finish');
    assert.deepEqual(subject.kinds(), ['welcome', 'form', 'formed', 'deal', 'save', 'deal', 'abort', 'finish']);
  });

  const wrong: readonly [string, CoordinatorMessage | Uint8Array, RegExp][] = [
    ['a deal of another epoch', { ...deal, epoch: 4 }, /expected epoch 5, the coordinator sent deal/u],
    ['a save of another generation', { ...save, generation: 1 }, /expected generation 2, the coordinator sent save/u],
    ['an abort of another epoch', { ...abort, epoch: 6 }, /expected epoch 5/u],
    ['a second welcome', welcome(6), /expected one welcome/u],
    ['a second form of a generation', formOf([nobody], 0), /expected a generation after 2/u],
    ['bytes that are no message', Uint8Array.of(0xc1, 1, 2), /./u],
    ['a message of a worker', encodeMessage({ kind: 'formed', ...ids }), /schema at kind/u],
    ['a deal without a field', encodeMessage({ ...deal, targetTokens: 0 }), /schema at targetTokens/u],
  ];
  for (const [what, message, reason] of wrong)
    test(`${what} ends the session with MESSAGE_INVALID`, async (t) => {
      const { peer, peers, subject } = await open(t);
      await form(peers);
      if (message instanceof Uint8Array) peer.sendBytes(message);
      else peer.send(message);
      const closed = await peer.closed;
      assert.equal(closed.code, toCloseCode('MESSAGE_INVALID'));
      assert.match(closed.reason, reason);
      assert.equal((await subject.emitted('lost')).error.code, 'MESSAGE_INVALID');
      assert.deepEqual(subject.all('waiting'), []);
    });

  test('before the welcome only welcome and finish are accepted', async (t) => {
    for (const message of [deal, save, abort]) {
      const { peer, subject } = await open(t);
      await peer.receive('join');
      peer.send({ ...message, epoch: 0, generation: 0 });
      const { error } = await subject.emitted('lost');
      assert.equal(error.code, 'MESSAGE_INVALID');
      assert.match(error.message, /expected welcome first/u);
    }
    const { peer, subject } = await open(t);
    peer.send({ kind: 'finish', outcome: 'finished', reason: 'stopped before it began' });
    await subject.emitted('finish');
  });

  test('a config that does not fit is CONFIG_INVALID', async (t) => {
    const { peer, subject } = await open(t);
    peer.send(welcome(5, { config: { name: 'test' } }));
    assert.equal((await subject.emitted('lost')).error.code, 'CONFIG_INVALID');
    assert.ok(!subject.kinds().includes('welcome'));
  });

  test('a request for a generation before the first one is INTERNAL', async (t) => {
    const { peers, subject } = await open(t);
    await welcomeAll(peers);
    await subject.emitted('welcome');
    assert.throws(() => subject.session.handleRequest({ kind: 'begin-step', step: 1 }), { code: 'INTERNAL' });
    const report = { kind: 'report' as const, ...ids, step: 1, lanes: [], ms: MS };
    assert.throws(() => subject.session.handleRequest(report), { code: 'INTERNAL' });
  });

  test('a report of a step that was not reduced is INTERNAL', async (t) => {
    const { peers, subject } = await open(t);
    await form(peers);
    const report = { kind: 'report' as const, ...ids, step: 1, lanes: [], ms: MS };
    assert.throws(() => subject.session.handleRequest(report), { code: 'INTERNAL' });
  });

  test('a wrong token or an address nobody can dial is final at once', async (t) => {
    const { coordinator, transport } = await open(t);
    const cases: [Partial<NetworkData>, ErrorCode][] = [
      [{ token: 'another token of the test' }, 'AUTH_FAILED'],
      [{ advertiseHost: '0.0.0.0' }, 'CONFIG_INVALID'],
      [{ advertiseHost: '::' }, 'CONFIG_INVALID'],
      [{ advertiseHost: 'not a host' }, 'CONFIG_INVALID'],
    ];
    for (const [data, code] of cases) {
      const subject = new Subject(transport, { coordinatorUrl: coordinator.url, ...data }, new ManualClock());
      await subject.session.start();
      assert.deepEqual(
        subject.events.map((event) => (event.kind === 'lost' ? event.error.code : event.kind)),
        [code],
      );
      subject.session.handleRequest({ kind: 'leave', reason: 'over' });
      await subject.ended;
    }
  });

  test('leaving closes the control connection, the links and the data port, and nothing is emitted for it', async (t) => {
    const { transport, peers, subjects } = await open(t, 2);
    await form(peers);
    const [subject, other] = [subjects[0]!, subjects[1]!];
    const { dataUrl } = peers[0]!.received.find((message) => message.kind === 'join')!;
    subject.session.handleRequest({ kind: 'leave', reason: 'the run is over' });
    await subject.ended;
    const closed = await peers[0]!.closed;
    assert.deepEqual([closed.code, closed.reason], [1000, 'the run is over']);
    assert.deepEqual(subject.kinds(), ['welcome', 'form', 'formed']);
    await assert.rejects(transport.dial(`${dataUrl}/data/5/2/0/1`, { token: TOKEN, timeoutMs: 1_000 }), {
      message: /nobody listens/u,
    });
    await other.emitted('generation-failed');
  });

  test('leaving before or while it joins ends it as well', async () => {
    const transport = new MemoryTransport();
    const subject = new Subject(transport, { coordinatorUrl: 'memory://127.0.0.1:9' }, new ManualClock());
    const started = subject.session.start();
    subject.session.handleRequest({ kind: 'leave', reason: 'at once' });
    await subject.ended;
    await started;
    assert.deepEqual(subject.events, []);
    await assert.rejects(transport.dial('memory://127.0.0.1:1/data', { token: TOKEN, timeoutMs: 10 }), {
      message: /nobody listens/u,
    });
  });
});
