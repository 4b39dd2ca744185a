import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { systemClock, type Clock } from '../../shared/clock.ts';
import { checkConfig } from '../../shared/config/load-config.ts';
import type { ErrorCode } from '../../shared/errors.ts';
import { assignLanes } from '../../shared/assign-lanes.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import { PROTOCOL_VERSION, type CoordinatorMessage } from '../../shared/protocol/messages.ts';
import { encodeMessage } from '../../shared/protocol/codec.ts';
import { toCloseCode } from '../../shared/transport/close-codes.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import { Arena } from '../collective/arena.ts';
import { checksumNaively, makeLaneGradient, sumNaively } from '../collective/lane-gradients.ts';
import { planGradient } from '../compute/plan-gradient.ts';
import { ProgressCell } from '../compute/progress-cell.ts';
import { membersOf, ScriptedCoordinator, type ScriptedPeer } from '../scripted-coordinator.fixture.ts';
import type { LinkData, LinkEvent } from './link-messages.ts';
import { LinkSession } from './link-session.ts';
import { ManualClock } from './manual-clock.fixture.ts';

const TOKEN = 'a token of the test';
const EPOCH = 5;
const NUM_LANES = 4;
const JOIN_DEADLINE_MS = 30_000;
const RAW_CONFIG = {
  name: 'test',
  model: { vocabSize: 64, dModel: 8, dKv: 4, dFf: 16, numLayers: 1, numDecoderLayers: 1, numHeads: 2 },
  mixture: { path: '/x.yaml' },
  training: { steps: 9, rowsPerStep: NUM_LANES, numLanes: NUM_LANES, microbatchRows: 1 },
  schedule: { kind: 'constant', value: 0.01 },
  cluster: { heartbeatIntervalMs: 100, heartbeatTimeoutMs: 1_000 },
  collective: { link: 'message', bucketBytes: 1024, frameBytes: 256 },
};
const plan = planGradient(checkConfig(RAW_CONFIG, 'the test'));
const laneSum = (step: number) =>
  sumNaively(Array.from({ length: NUM_LANES }, (_, lane) => makeLaneGradient(plan, 1, step, lane)));

type EventOf<K extends LinkEvent['kind']> = Extract<LinkEvent, { kind: K }>;

/** A session and what it emits. */
class Subject {
  readonly events: LinkEvent[] = [];
  readonly progress = new ProgressCell();
  readonly session: LinkSession;
  readonly ended: Promise<void>;
  #arena: Arena | undefined;
  readonly #looks = new Set<() => void>();

  constructor(transport: MemoryTransport, data: Partial<LinkData>, clock: Clock) {
    let onEnd!: () => void;
    this.ended = new Promise((resolve) => (onEnd = resolve));
    const address = { listenHost: '127.0.0.1', listenPort: 0, advertiseHost: '127.0.0.1' };
    this.session = new LinkSession({
      data: { coordinatorUrl: '', token: TOKEN, workerId: 'w', ...address, progress: this.progress.memory, ...data },
      transport,
      clock,
      emit: (event) => {
        this.events.push(event);
        for (const look of this.#looks) look();
      },
      onEnd,
    });
  }

  /** The first event of that kind that passes. */
  async emitted<K extends LinkEvent['kind']>(kind: K, passes: (event: EventOf<K>) => boolean = () => true) {
    return new Promise<EventOf<K>>((resolve) => {
      const look = (): void => {
        const found = this.events.find(
          (event): event is EventOf<K> => event.kind === kind && passes(event as EventOf<K>),
        );
        if (found === undefined) return;
        this.#looks.delete(look);
        resolve(found);
      };
      this.#looks.add(look);
      look();
    });
  }

  kinds(): string[] {
    return this.events.map(({ kind }) => kind);
  }

  /** Computes a step as the compute thread would. */
  async computeStep(step: number): Promise<void> {
    const { rank, worldSize, memory, layout } = await this.emitted('formed');
    const arena = (this.#arena ??= new Arena(layout, memory));
    this.session.take({ kind: 'begin-step', step });
    for (const fold of planLaneTree(NUM_LANES, assignLanes(NUM_LANES, worldSize).runs).folds[rank]!.steps) {
      arena.floats(fold.slot, 0, plan.totalBytes / 4).set(makeLaneGradient(plan, 1, step, fold.lane));
      arena.fold(fold, 0, plan.totalBytes);
    }
    for (const { index } of plan.buckets) this.session.take({ kind: 'bucket-ready', bucket: index });
  }

  reduced(): Buffer {
    return Buffer.from(this.#arena!.bytes(this.#arena!.slotAddress(0, 0), plan.totalBytes));
  }
}

async function open(t: TestContext, numWorkers = 1, clock: Clock = systemClock) {
  const transport = new MemoryTransport();
  const coordinator = await ScriptedCoordinator.listen(transport, TOKEN);
  const subjects: Subject[] = [];
  const peers: ScriptedPeer[] = [];
  for (let i = 0; i < numWorkers; i++) {
    const subject = new Subject(transport, { coordinatorUrl: coordinator.url, workerId: `w${i}` }, clock);
    subjects.push(subject);
    void subject.session.start();
    peers.push(await coordinator.peer());
  }
  t.after(async () => {
    for (const { session } of subjects) session.take({ kind: 'leave', reason: 'the test is over' });
    await coordinator.close();
    await Promise.all(subjects.map(({ ended }) => ended));
  });
  return { transport, coordinator, subjects, peers, subject: subjects[0]!, peer: peers[0]! };
}

const welcome = (epoch = EPOCH, config: object = RAW_CONFIG): CoordinatorMessage => ({
  kind: 'welcome',
  epoch,
  config,
  preparedFolder: '/prepared',
  mixtureHash: 'ab'.repeat(32),
  checkpoint: null,
  step: 0,
});
const ids = { epoch: EPOCH, generation: 2 };
const deal = { ...ids, kind: 'deal' as const, step: 1, learningRate: 0.1, targetTokens: 4, lanes: [] };
const save = { ...ids, kind: 'save' as const, folder: '/f', writer: 0, numWriters: 1 };
const abort = { ...ids, kind: 'abort' as const, reason: 'a peer is gone' };

/** Welcomes all workers and forms generation 2 of them. */
async function form(peers: readonly ScriptedPeer[]): Promise<void> {
  const joins = await Promise.all(peers.map((peer) => peer.heard('join')));
  for (const [rank, peer] of peers.entries()) {
    peer.say(welcome());
    peer.say({ ...ids, kind: 'form', rank, members: membersOf(joins), firstStep: 1 });
  }
  for (const peer of peers) assert.deepEqual(await peer.heard('formed'), { kind: 'formed', ...ids });
}

const MS = { feed: 1, compute: 2, communicate: 3, update: 4, total: 10 };

describe('link session', { timeout: 30_000 }, () => {
  test('joins with its name, its data port and the protocol it speaks', async (t) => {
    const { peer } = await open(t);
    const { workerId, protocolVersion, pid, dataUrl } = await peer.heard('join');
    assert.deepEqual(
      { workerId, protocolVersion, pid },
      { workerId: 'w0', protocolVersion: PROTOCOL_VERSION, pid: process.pid },
    );
    assert.match(dataUrl, /^memory:\/\/127\.0\.0\.1:\d+$/u);
  });

  test('a welcome is passed on, and from then on it beats with what the compute thread has written', async (t) => {
    const clock = new ManualClock();
    const { peer, subject } = await open(t, 1, clock);
    await peer.heard('join');
    peer.say(welcome());
    const event = await subject.emitted('welcome');
    assert.deepEqual([event.step, event.preparedFolder, event.checkpoint], [0, '/prepared', null]);
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
          assert.deepEqual(subject.reduced(), Buffer.from(expected.buffer), `rank ${rank} step ${step}`);
          const lanes = [{ lane: rank, tasks: [], zLoss: 0, inputTokens: 1 }];
          subject.session.take({ kind: 'report', step, lanes, ms: MS });
          const digest = checksumNaively(Buffer.from(expected.buffer));
          assert.deepEqual(await peers[rank]!.heard('report'), {
            kind: 'report',
            ...ids,
            step,
            gradDigest: digest,
            gradSumOfSquares: sumOfSquares,
            lanes,
            ms: MS,
          });
          const squares = expected.reduce((sum, x) => sum + x * x, 0);
          assert.ok(Math.abs(sumOfSquares / squares - 1) < 1e-12);
        }
      }
    });

  test('epoch and generation are added to what the compute thread says', async (t) => {
    const { peer, peers, subject } = await open(t);
    await form(peers);
    const digest = 'cd'.repeat(32);
    subject.session.take({ kind: 'saved', step: 3, files: [], paramDigest: digest });
    assert.deepEqual(await peer.heard('saved'), { kind: 'saved', ...ids, step: 3, files: [], paramDigest: digest });
    subject.session.take({ kind: 'aborted', step: 3 });
    assert.deepEqual(await peer.heard('aborted'), { kind: 'aborted', ...ids, step: 3 });
  });

  test('commands come out in the order they came in', async (t) => {
    const { peer, peers, subject } = await open(t);
    await form(peers);
    for (const message of [deal, save, { ...deal, step: 2 }, abort, { kind: 'finish' as const, reason: 'done' }])
      peer.say(message);
    await subject.emitted('finish');
    assert.deepEqual(
      subject.kinds().filter((kind) => kind !== 'collective-failed'),
      ['welcome', 'formed', 'deal', 'save', 'deal', 'abort', 'finish'],
    );
  });

  test('an abort ends the step under way as the coordinator wants it: it is not reported as a failure', async (t) => {
    const { peers, subjects } = await open(t, 2);
    await form(peers);
    await subjects[0]!.computeStep(1);
    for (const peer of peers) peer.say(abort);
    const failed = await subjects[0]!.emitted('collective-failed');
    assert.equal(failed.error.code, 'ABORTED');
    await subjects[0]!.emitted('abort');
    subjects[0]!.session.take({ kind: 'aborted', step: 0 });
    await peers[0]!.heard('aborted');
    assert.ok(!peers[0]!.said.some(({ kind }) => kind === 'failed'));
  });

  test('an abort while the links are being made calls that off', async (t) => {
    const clock = new ManualClock();
    const { peer, subject } = await open(t, 1, clock);
    const join = await peer.heard('join');
    peer.say(welcome());
    const nobody = { workerId: 'x', rank: 1, host: 'h', dataUrl: 'memory://127.0.0.1:999' };
    peer.say({ ...ids, kind: 'form', rank: 0, members: [...membersOf([join]), nobody], firstStep: 1 });
    peer.say(abort);
    await subject.emitted('abort');
    for (let i = 0; i < 20; i++) await clock.advance(100); // past the deadline of the links
    subject.session.take({ kind: 'aborted', step: 0 });
    await peer.heard('aborted');
    assert.deepEqual(subject.kinds(), ['welcome', 'abort']);
    assert.deepEqual(
      peer.said.map(({ kind }) => kind),
      ['join', 'aborted'],
    );
  });

  test('links that cannot be made are told to the coordinator', async (t) => {
    const clock = new ManualClock();
    const { peer } = await open(t, 1, clock);
    const join = await peer.heard('join');
    peer.say(welcome());
    const nobody = { workerId: 'x', rank: 1, host: 'h', dataUrl: 'memory://127.0.0.1:999' };
    peer.say({ ...ids, kind: 'form', rank: 0, members: [...membersOf([join]), nobody], firstStep: 1 });
    await clock.advance(0);
    for (let i = 0; i < 12; i++) await clock.advance(100);
    const { error } = await peer.heard('failed');
    assert.equal(error.code, 'CONNECT_FAILED');
    assert.match(error.message, /could not reach rank 1 at memory:\/\/127\.0\.0\.1:999/u);
  });

  test('an arena that no memory can hold is told to the coordinator by everyone', async (t) => {
    const { peers } = await open(t, 2);
    const members = membersOf(await Promise.all(peers.map((peer) => peer.heard('join'))));
    const config = { ...RAW_CONFIG, collective: { ...RAW_CONFIG.collective, windowFrames: 10 ** 9 } };
    for (const [rank, peer] of peers.entries()) {
      peer.say(welcome(EPOCH, config));
      peer.say({ ...ids, kind: 'form', rank, members, firstStep: 1 });
    }
    for (const peer of peers) {
      const { error } = await peer.heard('failed');
      assert.equal(error.code, 'CONFIG_INVALID');
      assert.match(error.message, /gradient arena of rank \d: expected at most 4 GiB/u);
    }
  });

  test('a peer that dies in mid-step is told to the coordinator once, with its rank, and to the compute thread once', async (t) => {
    const { peers, subjects } = await open(t, 2);
    await form(peers);
    await subjects[0]!.computeStep(1);
    subjects[1]!.session.take({ kind: 'leave', reason: 'dies' });
    await subjects[1]!.ended;
    const { error } = await peers[0]!.heard('failed');
    assert.equal(error.code, 'CONNECTION_LOST');
    assert.match(error.message, /rank 1/u);
    subjects[0]!.session.take({ kind: 'aborted', step: 0 });
    await peers[0]!.heard('aborted');
    assert.equal(peers[0]!.said.filter(({ kind }) => kind === 'failed').length, 1);
    assert.equal(subjects[0]!.kinds().filter((kind) => kind === 'collective-failed').length, 1);
    assert.ok(!subjects[0]!.kinds().includes('lost'), 'the coordinator decides');
  });

  const wrong: readonly [string, CoordinatorMessage | Uint8Array, RegExp][] = [
    ['a deal of another epoch', { ...deal, epoch: 4 }, /expected epoch 5, the coordinator sent deal/u],
    ['a save of another generation', { ...save, generation: 1 }, /expected generation 2, the coordinator sent save/u],
    ['an abort of another epoch', { ...abort, epoch: 6 }, /expected epoch 5/u],
    ['a second welcome', welcome(6), /expected one welcome/u],
    [
      'a second form',
      { ...ids, kind: 'form', rank: 0, members: [{ workerId: 'w', rank: 0, host: 'h', dataUrl: 'u' }], firstStep: 1 },
      /expected one form/u,
    ],
    ['bytes that are no message', Uint8Array.of(0xc1, 1, 2), /./u],
    ['a message of a worker', encodeMessage({ kind: 'formed', ...ids }), /schema at kind/u],
    ['a deal without a field', encodeMessage({ ...deal, targetTokens: 0 }), /schema at targetTokens/u],
  ];
  for (const [what, message, reason] of wrong)
    test(`${what} ends the session with MESSAGE_INVALID`, async (t) => {
      const { peer, peers, subject } = await open(t);
      await form(peers);
      if (message instanceof Uint8Array) peer.sayBytes(message);
      else peer.say(message);
      const closed = await peer.closed;
      assert.equal(closed.code, toCloseCode('MESSAGE_INVALID'));
      assert.match(closed.reason, reason);
      assert.equal((await subject.emitted('lost')).error.code, 'MESSAGE_INVALID');
    });

  test('before the welcome nothing but welcome and finish is taken', async (t) => {
    for (const message of [deal, save, abort]) {
      const { peer, subject } = await open(t);
      await peer.heard('join');
      peer.say({ ...message, epoch: 0, generation: 0 });
      const { error } = await subject.emitted('lost');
      assert.equal(error.code, 'MESSAGE_INVALID');
      assert.match(error.message, /expected welcome first/u);
    }
    const { peer, subject } = await open(t);
    peer.say({ kind: 'finish', reason: 'stopped before it began' });
    await subject.emitted('finish');
  });

  test('a config that does not fit is CONFIG_INVALID', async (t) => {
    const { peer, subject } = await open(t);
    peer.say({ ...welcome(), config: { name: 'test' } } as CoordinatorMessage);
    assert.equal((await subject.emitted('lost')).error.code, 'CONFIG_INVALID');
    assert.ok(!subject.kinds().includes('welcome'));
  });

  test('a coordinator that goes silent is CONNECTION_LOST after the limit, not before, and the socket is closed', async (t) => {
    const clock = new ManualClock();
    const { peer, subject } = await open(t, 1, clock);
    await peer.heard('join');
    peer.say(welcome());
    await subject.emitted('welcome');
    await clock.advance(0);
    for (let ms = 0; ms <= JOIN_DEADLINE_MS; ms += 100) await clock.advance(100);
    assert.deepEqual(subject.kinds(), ['welcome'], 'answers keep it alive');
    peer.answersHeartbeats = false;
    for (let i = 0; i < 10; i++) await clock.advance(100);
    assert.deepEqual(subject.kinds(), ['welcome']);
    await clock.advance(100);
    const { error } = await subject.emitted('lost');
    assert.equal(error.code, 'CONNECTION_LOST');
    assert.match(error.message, /silent for 1100 ms \(limit 1000\)/u);
    assert.equal((await peer.closed).code, toCloseCode('CONNECTION_LOST'));
  });

  for (const code of ['NORMAL', 'JOIN_REFUSED', 'VERSION_MISMATCH'] as const)
    test(`a coordinator that closes with ${code} is lost with ${code === 'NORMAL' ? 'CONNECTION_LOST' : 'that code'} and the reason`, async (t) => {
      const { peer, subject } = await open(t);
      await peer.heard('join');
      peer.close(code, 'because of the test');
      const { error } = await subject.emitted('lost');
      const expected: ErrorCode = code === 'NORMAL' ? 'CONNECTION_LOST' : code;
      assert.equal(error.code, expected);
      assert.match(error.message, /because of the test/u);
    });

  test('who is not welcomed in time gives up', async (t) => {
    const clock = new ManualClock();
    const { peer, subject } = await open(t, 1, clock);
    await peer.heard('join');
    await clock.advance(JOIN_DEADLINE_MS - 1);
    assert.deepEqual(subject.events, []);
    await clock.advance(1);
    const { error } = await subject.emitted('lost');
    assert.equal(error.code, 'CONNECT_FAILED');
    assert.match(error.message, /did not welcome this worker within 30000 ms/u);
    await peer.closed;
  });

  test('a coordinator that is not there yet is dialled until it is, or the deadline', async (t) => {
    const transport = new MemoryTransport();
    const clock = new ManualClock();
    const early = new Subject(transport, { coordinatorUrl: 'memory://127.0.0.1:2' }, clock);
    void early.session.start();
    const { reason } = await early.emitted('waiting');
    assert.match(reason, /nobody listens/u);
    await clock.advance(500);
    const coordinator = await ScriptedCoordinator.listen(transport, TOKEN); // the session's data port has number 1
    assert.equal(coordinator.url, 'memory://127.0.0.1:2');
    for (let i = 0; i < 5; i++) await clock.advance(500);
    await (await coordinator.peer()).heard('join');
    assert.deepEqual(early.kinds(), ['waiting']);
    const late = new Subject(transport, { coordinatorUrl: 'memory://127.0.0.1:99' }, clock);
    void late.session.start();
    await late.emitted('waiting');
    for (let i = 0; i < 31; i++) await clock.advance(1_000);
    assert.equal((await late.emitted('lost')).error.code, 'CONNECT_FAILED');
    assert.deepEqual(late.kinds(), ['waiting', 'lost']);
    t.after(async () => {
      for (const { session } of [early, late]) session.take({ kind: 'leave', reason: 'over' });
      await coordinator.close();
    });
  });

  test('a wrong token or an address nobody can dial is final at once', async (t) => {
    const { coordinator, transport } = await open(t);
    const cases: [Partial<LinkData>, ErrorCode][] = [
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
      subject.session.take({ kind: 'leave', reason: 'over' });
      await subject.ended;
    }
  });

  test('leaving closes the control connection, the links and the data port, and nothing is emitted for it', async (t) => {
    const { transport, peers, subjects } = await open(t, 2);
    await form(peers);
    const [subject, other] = [subjects[0]!, subjects[1]!];
    const { dataUrl } = peers[0]!.said.find((message) => message.kind === 'join')!;
    subject.session.take({ kind: 'leave', reason: 'the run is over' });
    await subject.ended;
    const closed = await peers[0]!.closed;
    assert.deepEqual([closed.code, closed.reason], [1000, 'the run is over']);
    assert.deepEqual(subject.kinds(), ['welcome', 'formed']);
    await assert.rejects(transport.dial(`${dataUrl}/data/5/2/0/1`, { token: TOKEN, timeoutMs: 1_000 }), {
      message: /nobody listens/u,
    });
    await other.emitted('collective-failed');
  });

  test('leaving before or while it joins ends it as well', async () => {
    const transport = new MemoryTransport();
    const subject = new Subject(transport, { coordinatorUrl: 'memory://127.0.0.1:9' }, new ManualClock());
    const started = subject.session.start();
    subject.session.take({ kind: 'leave', reason: 'at once' });
    await subject.ended;
    await started;
    assert.deepEqual(subject.events, []);
    await assert.rejects(transport.dial('memory://127.0.0.1:1/data', { token: TOKEN, timeoutMs: 10 }), {
      message: /nobody listens/u,
    });
  });
});
