/** A worker with its real threads and real sockets, a small prepared mixture, and a scripted coordinator. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, type TestContext } from 'node:test';
import { openPreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { encodeRows, type PlannedRow } from '../mixture/plan/planned-rows.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import { writeSmallMixture } from '../mixture/prepare/small-mixture.fixture.ts';
import { systemClock } from '../shared/clock.ts';
import { createLogger } from '../shared/logger.ts';
import type { CoordinatorMessage } from '../shared/protocol/messages.ts';
import { webSocketTransport } from '../shared/transport/websocket-transport.ts';
import { ProgressCell } from './network/progress-cell.ts';
import { ArenaPool } from './arena/arena.ts';
import { DataPlane } from './network/data-plane.ts';
import type { NetworkEvent } from './network/network-messages.ts';
import { NetworkSession } from './network/network-session.ts';
import { runWorker } from './run-worker.fixture.ts';
import { membersOf, ScriptedCoordinator, type ScriptedPeer } from './scripted-coordinator.fixture.ts';
import { createWorkerParts } from './worker-parts.ts';
import { Worker } from './worker.ts';

const TOKEN = 'a token of the test';
export const SEED = 5;
export const NUM_LANES = 2;
const ADDRESS = { listenHost: '127.0.0.1', listenPort: 0, advertiseHost: '127.0.0.1' };
export const ids = { epoch: 1, generation: 1 };
export const root = mkdtempSync(join(tmpdir(), 'exmix-worker-'));
export const preparedFolder = join(root, 'prepared');
export const featureLengths = { inputs: 64, targets: 32 };
await prepareMixture({ mixture: writeSmallMixture(join(root, 'sources'), 20), outDir: preparedFolder, featureLengths });
export const mixture = await openPreparedMixture(preparedFolder);
after(() => {
  mixture.close();
  rmSync(root, { recursive: true });
});
const model = { dModel: 16, dKv: 8, dFf: 32, numLayers: 1, numDecoderLayers: 1, numHeads: 2 };
export const config = {
  name: 'test',
  seed: SEED,
  model: { vocabSize: mixture.tokenizer.vocabSize, ...model },
  featureLengths,
  mixture: { path: '/x.yaml' },
  training: { steps: 9, rowsPerStep: 4, numLanes: NUM_LANES, microbatchRows: 1 },
  schedule: { kind: 'constant', value: 0.01 },
  cluster: { heartbeatIntervalMs: 50, heartbeatTimeoutMs: 4_000, coordinatorGraceMs: 500 },
  collective: { link: 'direct', bucketBytes: 16_384, frameBytes: 16_384 },
};

export interface Running {
  readonly coordinator: ScriptedCoordinator;
  readonly peer: ScriptedPeer;
  /** How `run` ended: the error's code, or "finished". */
  readonly ended: Promise<string>;
  readonly stop: AbortController;
}

/** Starts a worker and welcomes it. */
export async function start(t: TestContext, { prepared = preparedFolder, engine = 'wasm' } = {}): Promise<Running> {
  const coordinator = await ScriptedCoordinator.listen(webSocketTransport, TOKEN);
  const log = createLogger({ onRecord: () => undefined });
  const network = { coordinatorUrl: coordinator.url, token: TOKEN, workerId: 'w0', ...ADDRESS };
  const worker = new Worker({ parts: createWorkerParts({ ...network, engine, log }), clock: systemClock, log });
  const { ended, stop } = runWorker(t, worker);
  t.after(() => coordinator.close());
  const peer = await coordinator.peer();
  peer.send(welcome(prepared));
  return { coordinator, peer, ended, stop };
}

function welcome(prepared = preparedFolder): CoordinatorMessage {
  const run = { runId: 'run', config, preparedFolder: prepared, mixtureHash: mixture.hash, committedStep: 0 };
  return { kind: 'welcome', epoch: 1, ...run };
}

/** From the seed. */
export const START = {
  kind: 'form' as const,
  firstStep: 1,
  state: { kind: 'start' as const, checkpoint: null },
  secret: Buffer.alloc(32, 1),
  receivers: [],
  proveState: true,
};

/** Forms a generation of the worker alone. @returns the digest of its parameters */
export async function formAlone(peer: ScriptedPeer): Promise<string | undefined> {
  await peer.receive('ready');
  peer.send({ ...START, ...ids, rank: 0, members: membersOf([await peer.receive('join')], NUM_LANES) });
  return (await peer.receive('formed')).paramDigest;
}

/** Forms a generation with a second member that never computes, so that no step can end. Worker 0 holds lane 0. */
export async function formWithIdlePeer(t: TestContext, { coordinator, peer }: Running): Promise<void> {
  const data = { coordinatorUrl: coordinator.url, token: TOKEN, workerId: 'idle', ...ADDRESS };
  const init = {
    data: { ...data, progress: new ProgressCell().memory },
    transport: webSocketTransport,
    clock: systemClock,
  };
  const dataPlane = new DataPlane({
    ...init,
    arenas: new ArenaPool(1),
    onRefused: () => undefined,
    onNoOutbox: () => undefined,
  });
  const emit = ({ kind }: NetworkEvent): void => {
    if (kind === 'form') setImmediate(() => idle.handleRequest({ kind: 'state-in-place', generation: ids.generation }));
  };
  const idle: NetworkSession = new NetworkSession({ ...init, dataPlane, emit, onEnd: () => undefined });
  t.after(() => idle.handleRequest({ kind: 'leave', reason: 'the test is over' }));
  void idle.start();
  const second = await coordinator.peer();
  second.send(welcome());
  await peer.receive('ready');
  const members = membersOf([await peer.receive('join'), await second.receive('join')], NUM_LANES);
  for (const [rank, member] of [peer, second].entries()) member.send({ ...START, ...ids, rank, members });
  await Promise.all([peer.receive('formed'), second.receive('formed')]);
}

export function deal(peer: ScriptedPeer, step: number, lanes: readonly number[], learningRate = 0.01): void {
  const rowsOf = (lane: number): PlannedRow[] =>
    [0, 1].map((row) => {
      const task = (step + row) % mixture.tasks.length;
      return [{ task, index: (2 * lane + step) % mixture.tasks[task]!.numExamples, epoch: 0 }];
    });
  const targetTokens = [0, 1]
    .flatMap(rowsOf)
    .flat()
    .reduce((sum, { task, index }) => sum + mixture.tasks[task]!.targetsLength(index), 0);
  const dealt = lanes.map((lane) => ({ lane, rows: encodeRows(rowsOf(lane)) }));
  peer.send({ ...ids, kind: 'deal', step, learningRate, targetTokens, lanes: dealt, proveState: false });
}

export function save(peer: ScriptedPeer, step: number): string {
  const folder = mkdtempSync(join(root, 'checkpoint-'));
  peer.send({ ...ids, kind: 'save', step, stateStep: step, folder, writer: 0, numWriters: 1 });
  return folder;
}

/** Resolves when the worker's heartbeats show it in that phase. */
export async function inPhase(peer: ScriptedPeer, phase: string): Promise<void> {
  while (peer.heartbeats.at(-1)?.phase !== phase) await peer.beats(1);
}
