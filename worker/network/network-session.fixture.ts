/** Link sessions over the in-memory transport, under a scripted coordinator, each with a compute thread that the test plays. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { systemClock, type Clock } from '../../shared/clock.ts';
import { checkConfig } from '../../shared/config/load-config.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import type { Member, MessageOf } from '../../shared/protocol/messages.ts';
import type { Refusal } from '../../shared/transport/transport.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import { ArenaPool, Arena } from '../arena/arena.ts';
import { makeLaneGradient, sumNaively } from '../collective/lane-gradients.fixture.ts';
import { planGradient } from '../collective/plan-gradient.ts';
import { ProgressCell } from './progress-cell.ts';
import { membersOf, ScriptedCoordinator, type ScriptedPeer } from '../scripted-coordinator.fixture.ts';
import { DataPlane } from './data-plane.ts';
import type { NetworkData, NetworkEvent, NetworkRequest } from './network-messages.ts';
import { NetworkSession } from './network-session.ts';

export const TOKEN = 'a token of the test';
/** Of every generation. */
export const SECRET = Buffer.alloc(32, 1);
export const EPOCH = 5;
export const RUN_ID = 'the run';
const NUM_LANES = 4;
export const JOIN_DEADLINE_MS = 30_000;
export const GRACE_MS = 60_000;
export const RAW_CONFIG = {
  name: 'test',
  model: { vocabSize: 64, dModel: 8, dKv: 4, dFf: 16, numLayers: 1, numDecoderLayers: 1, numHeads: 2 },
  mixture: { path: '/x.yaml' },
  training: { steps: 9, rowsPerStep: NUM_LANES, numLanes: NUM_LANES, microbatchRows: 1 },
  schedule: { kind: 'constant', value: 0.01 },
  cluster: {
    heartbeatIntervalMs: 100,
    heartbeatTimeoutMs: 1_000,
    connectTimeoutMs: 1_000,
    coordinatorGraceMs: GRACE_MS,
  },
  // Windows do not depend on how long a ping took.
  collective: { link: 'message', bucketBytes: 1024, frameBytes: 256, maxWindowBytes: 1 },
};
export const MS = { feed: 1, compute: 2, communicate: 3, update: 4, total: 10 };

const plan = planGradient(checkConfig(RAW_CONFIG, 'the test'));
/** The canonical gradient of a step. */
export const laneSum = (step: number): Float32Array =>
  sumNaively(Array.from({ length: NUM_LANES }, (_, lane) => makeLaneGradient(plan, 1, step, lane)));

type EventOf<K extends NetworkEvent['kind']> = Extract<NetworkEvent, { kind: K }>;

/** A session, what it emits, and its compute thread. */
export class Subject {
  readonly events: NetworkEvent[] = [];
  readonly refusals: Refusal[] = [];
  readonly progress = new ProgressCell();
  readonly session: NetworkSession;
  readonly ended: Promise<void>;
  /** The compute thread holds the state of every generation, and says so. */
  holdsState = true;
  readonly #checks = new Set<() => void>();

  constructor(transport: MemoryTransport, data: Partial<NetworkData>, clock: Clock) {
    let onEnd!: () => void;
    this.ended = new Promise((resolve) => (onEnd = resolve));
    const address = { listenHost: '127.0.0.1', listenPort: 0, advertiseHost: '127.0.0.1' };
    const own = { coordinatorUrl: '', token: TOKEN, workerId: 'w', ...address, progress: this.progress.memory };
    const init = { data: { ...own, ...data }, transport, clock };
    const onRefused = (refusal: Refusal): void => void this.refusals.push(refusal);
    const dataPlane = new DataPlane({ ...init, arenas: new ArenaPool(1), onRefused, onNoOutbox: () => undefined });
    this.session = new NetworkSession({ ...init, dataPlane, emit: (event) => this.#record(event), onEnd });
  }

  /** The first event of that kind that passes. */
  async emitted<K extends NetworkEvent['kind']>(kind: K, passes: (event: EventOf<K>) => boolean = () => true) {
    return new Promise<EventOf<K>>((resolve) => {
      const check = (): void => {
        const found = this.events.find(
          (event): event is EventOf<K> => event.kind === kind && passes(event as EventOf<K>),
        );
        if (found === undefined) return;
        this.#checks.delete(check);
        resolve(found);
      };
      this.#checks.add(check);
      check();
    });
  }

  /** Kinds of the events so far, `waiting` left out. */
  kinds(): string[] {
    return this.events.map(({ kind }) => kind).filter((kind) => kind !== 'waiting');
  }

  all<K extends NetworkEvent['kind']>(kind: K): EventOf<K>[] {
    return this.events.filter((event): event is EventOf<K> => event.kind === kind);
  }

  /** Computes a step of the last generation as the compute thread would. */
  async computeStep(step: number): Promise<void> {
    const { members, rank } = this.all('form').at(-1)!;
    const arena = await this.arena();
    this.session.handleRequest({ kind: 'begin-step', step });
    const { folds } = planLaneTree(
      NUM_LANES,
      members.map(({ lanes }) => lanes),
    );
    for (const fold of folds[rank]!.steps) {
      arena.floats(fold.slot, 0, plan.gradientBytes / 4).set(makeLaneGradient(plan, 1, step, fold.lane));
      arena.fold(fold, 0, plan.gradientBytes);
    }
    for (const { index } of plan.buckets) this.session.handleRequest({ kind: 'bucket-ready', bucket: index });
  }

  /** Of the last generation, once it is formed. */
  async arena(): Promise<Arena> {
    const { generation, epoch } = this.all('form').at(-1)!;
    const { memory, layout } = await this.emitted('formed', (e) => e.generation === generation && e.epoch === epoch);
    return new Arena(layout, memory);
  }

  /** Bytes of the reduced gradient. */
  async reduced(): Promise<Buffer> {
    const arena = await this.arena();
    return Buffer.from(arena.bytes(arena.slotAddress(0, 0), plan.gradientBytes));
  }

  /** Waits for the sum of a step of the last generation and says that it was applied. */
  async report(step: number): Promise<void> {
    await this.emitted('reduced', (event) => event.step === step);
    const { epoch, generation } = this.all('form').at(-1)!;
    this.session.handleRequest({ kind: 'report', epoch, generation, step, lanes: [], ms: MS });
  }

  #record(event: NetworkEvent): void {
    this.events.push(event);
    if (event.kind === 'form' && this.holdsState) {
      const request: NetworkRequest = { kind: 'state-in-place', generation: event.generation };
      setImmediate(() => this.session.handleRequest(request)); // as from another thread
    }
    for (const check of this.#checks) check();
  }
}

export interface Opened {
  readonly transport: MemoryTransport;
  readonly coordinator: ScriptedCoordinator;
  readonly subjects: readonly Subject[];
  readonly peers: readonly ScriptedPeer[];
  readonly subject: Subject;
  readonly peer: ScriptedPeer;
}

/** Sessions that have dialled. */
export async function open(t: TestContext, numWorkers = 1, clock: Clock = systemClock): Promise<Opened> {
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
    for (const { session } of subjects) session.handleRequest({ kind: 'leave', reason: 'the test is over' });
    await coordinator.close();
    await Promise.all(subjects.map(({ ended }) => ended));
  });
  return { transport, coordinator, subjects, peers, subject: subjects[0]!, peer: peers[0]! };
}

export const welcome = (epoch = EPOCH, more: Partial<MessageOf<'welcome'>> = {}): MessageOf<'welcome'> => ({
  kind: 'welcome',
  epoch,
  runId: RUN_ID,
  config: RAW_CONFIG,
  preparedFolder: '/prepared',
  mixtureHash: 'ab'.repeat(32),
  committedStep: 0,
  ...more,
});
export const ids = { epoch: EPOCH, generation: 2 };
export const deal: MessageOf<'deal'> = {
  ...ids,
  kind: 'deal',
  step: 1,
  learningRate: 0.1,
  targetTokens: 4,
  lanes: [],
  proveState: false,
};
export const save: MessageOf<'save'> = {
  ...ids,
  kind: 'save',
  step: 1,
  stateStep: 1,
  folder: '/f',
  writer: 0,
  numWriters: 1,
};
export const abort: MessageOf<'abort'> = { ...ids, kind: 'abort', reason: 'a peer is gone' };

export const formOf = (
  members: readonly Member[],
  rank: number,
  more: Partial<MessageOf<'form'>> = {},
): MessageOf<'form'> => ({
  ...ids,
  kind: 'form',
  rank,
  members: [...members],
  firstStep: 1,
  secret: SECRET,
  state: { kind: 'held', step: 0 },
  receivers: [],
  proveState: false,
  ...more,
});

/** A member that nobody is. */
export const nobody: Member = {
  workerId: 'x',
  rank: 1,
  host: 'h',
  dataUrl: 'memory://127.0.0.1:999',
  lanes: { first: 2, end: 4 },
};

/** Welcomes all workers. @returns the members of a generation of them */
export async function welcomeAll(peers: readonly ScriptedPeer[], message = welcome()): Promise<Member[]> {
  const joins = await Promise.all(peers.map((peer) => peer.receive('join')));
  for (const peer of peers) peer.send(message);
  return membersOf(joins, NUM_LANES);
}

/** Forms a generation of workers that are welcome. */
export async function formAll(
  peers: readonly ScriptedPeer[],
  members: readonly Member[],
  more: Partial<MessageOf<'form'>> = {},
): Promise<void> {
  for (const [rank, peer] of peers.entries()) peer.send(formOf(members, rank, more));
  const { epoch, generation } = { ...ids, ...more };
  for (const peer of peers) assert.deepEqual(await peer.receive('formed'), { kind: 'formed', epoch, generation });
}

/** Welcomes all workers and forms generation 2 of them. */
export async function form(peers: readonly ScriptedPeer[]): Promise<Member[]> {
  const members = await welcomeAll(peers);
  await formAll(peers, members);
  return members;
}
