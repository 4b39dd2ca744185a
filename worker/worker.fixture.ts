/**
 * Workers without threads and tensor libraries: real commands, state, steps, sessions and sums over the in-memory transport, between an
 * engine and a feed that the test can hold up or break. What they train are bits all the same: a function of seed, steps and lanes.
 */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { systemClock } from '../shared/clock.ts';
import { checkConfig } from '../shared/config/load-config.ts';
import { toTrainerError } from '../shared/errors.ts';
import { createLogger, type LogRecord } from '../shared/logger.ts';
import type { Member } from '../shared/protocol/messages.ts';
import { MemoryTransport } from '../shared/transport/memory-transport.ts';
import { ArenaPool } from './arena/arena.ts';
import { loadState } from './compute/load-state.ts';
import { DataPlane } from './network/data-plane.ts';
import { abort, deal, EPOCH, formOf, RAW_CONFIG, TOKEN, welcomeAll } from './network/network-session.fixture.ts';
import { NetworkSession } from './network/network-session.ts';
import type { NetworkEvent, NetworkRequest } from './network/network-messages.ts';
import { PlainEngine, PlainFeed, PlainWriter } from './plain-parts.fixture.ts';
import { runWorker } from './run-worker.fixture.ts';
import { ScriptedCoordinator, type ScriptedPeer } from './scripted-coordinator.fixture.ts';
import type { WorkerParts } from './worker-parts.ts';
import { Worker } from './worker.ts';

export const SEED = checkConfig(RAW_CONFIG, 'the test').seed;

export interface PlainWorker {
  readonly engine: PlainEngine;
  readonly feed: PlainFeed;
  readonly writer: PlainWriter;
  readonly peer: ScriptedPeer;
  readonly log: readonly LogRecord[];
  /** What its compute thread was told, whether or not it has come to it. */
  readonly heard: readonly NetworkEvent[];
  /** How `run` ended: the error's code, or "finished". */
  readonly ended: Promise<string>;
  readonly stop: AbortController;
  readonly drain: AbortController;
}

/** Starts a worker that dials the coordinator. */
async function startPlain(
  t: TestContext,
  transport: MemoryTransport,
  coordinator: ScriptedCoordinator,
  workerId = 'w0',
): Promise<PlainWorker> {
  const engine = new PlainEngine();
  const feed = new PlainFeed();
  const writer = new PlainWriter(engine);
  const log: LogRecord[] = [];
  const heard: NetworkEvent[] = [];
  const startNetwork: WorkerParts['startNetwork'] = (progress, onEvent, onFailed) => {
    const address = { listenHost: '127.0.0.1', listenPort: 0, advertiseHost: '127.0.0.1' };
    const init = {
      data: { coordinatorUrl: coordinator.url, token: TOKEN, workerId, ...address, progress },
      transport,
      clock: systemClock,
    };
    const emit = (event: NetworkEvent): void =>
      void setImmediate(() => {
        onEvent(event);
        heard.push(event);
      });
    const dataPlane = new DataPlane({
      ...init,
      arenas: new ArenaPool(1),
      onRefused: () => undefined,
      onNoOutbox: () => undefined,
    });
    let onEnd!: () => void;
    const exited = new Promise<void>((resolve) => (onEnd = resolve));
    const session = new NetworkSession({ ...init, dataPlane, emit, onEnd });
    void session.start();
    const take = (request: NetworkRequest): void => {
      try {
        session.handleRequest(request);
      } catch (error) {
        onFailed(toTrainerError(error));
      }
    };
    const post = async (request: NetworkRequest): Promise<void> => {
      // This transport closes ahead of what waits to be sent; sockets do not.
      for (let turn = 0; turn < (request.kind === 'leave' ? 20 : 1); turn++) await new Promise(setImmediate);
      take(request);
    };
    return { post: (request) => void post(request), exited, stop: () => Promise.resolve() };
  };
  const parts: WorkerParts = {
    startNetwork,
    createEngine: () => Promise.resolve({ engine, reason: 'of the test', notes: ['a note'] }),
    createEvaluationEngine: () => Promise.resolve({ engine, reason: 'of the test', notes: [] }),
    startFeed: () => feed,
    loadState,
    createWriter: () => writer,
    predict: () => Promise.resolve({ microbatchMs: 1, updateMs: 2, workerBytes: 3 }),
  };
  const onRecord = (record: LogRecord): void => void log.push(record);
  const worker = new Worker({ parts, clock: systemClock, log: createLogger({ onRecord }) });
  const { ended, stop, drain } = runWorker(t, worker);
  const peer = await coordinator.peer();
  return { engine, feed, writer, peer, log, heard, ended, stop, drain };
}

/** A network, a coordinator and workers that are welcome and ready. */
export async function openReady(t: TestContext, numWorkers = 1) {
  const transport = new MemoryTransport();
  const coordinator = await ScriptedCoordinator.listen(transport, TOKEN);
  t.after(() => coordinator.close());
  const workers: PlainWorker[] = [];
  for (let i = 0; i < numWorkers; i++) workers.push(await startPlain(t, transport, coordinator, `w${i}`));
  const members = await welcomeAll(workers.map(({ peer }) => peer));
  for (const { peer } of workers) await peer.receive('ready');
  return { transport, coordinator, workers, members, worker: workers[0]!, peer: workers[0]!.peer };
}

type FormMessage = ReturnType<typeof formOf>;

/** Forms a generation. @param more what is said to each rank @returns the digests that they prove */
export async function formWorkers(
  workers: readonly PlainWorker[],
  members: readonly Member[],
  more: Partial<FormMessage> | ((rank: number) => Partial<FormMessage>),
): Promise<(string | undefined)[]> {
  for (const [rank, { peer }] of workers.entries())
    peer.send(formOf(members, rank, typeof more === 'function' ? more(rank) : more));
  return Promise.all(workers.map(async ({ peer }) => (await peer.receive('formed')).paramDigest));
}

/** Deals a step to all members of a generation. */
export function dealTo(
  workers: readonly PlainWorker[],
  members: readonly Member[],
  step: number,
  more: Partial<typeof deal> = {},
): void {
  for (const [rank, { peer }] of workers.entries()) {
    const { first, end } = members[rank]!.lanes;
    const lanes = Array.from({ length: end - first }, (_, i) => ({ lane: first + i, rows: new Uint8Array(0) }));
    peer.send({ ...deal, step, lanes, ...more });
  }
}

/** Calls a generation off. @returns the steps that the workers have applied */
export async function abortWorkers(workers: readonly PlainWorker[], generation: number): Promise<(number | null)[]> {
  for (const { peer } of workers) peer.send({ ...abort, generation });
  return Promise.all(
    workers.map(async ({ peer }) => {
      const aborted = await peer.receive('aborted');
      assert.deepEqual([aborted.epoch, aborted.generation], [EPOCH, generation]);
      return aborted.step;
    }),
  );
}

/** What a worker says has failed in a generation; of one before it may have said that the others' links went first. */
export async function failureOf({ peer }: PlainWorker, generation: number): Promise<{ code: string; message: string }> {
  for (;;) {
    const failed = await peer.receive('failed');
    if (failed.generation === generation) return failed.error;
  }
}

/** Resolves when its compute thread has been told so much, though it may be busy. */
export async function untilTold({ heard }: PlainWorker, kind: NetworkEvent['kind'], generation: number): Promise<void> {
  const isIt = (event: NetworkEvent): boolean =>
    event.kind === kind && 'generation' in event && event.generation === generation;
  while (!heard.some(isIt)) await new Promise(setImmediate);
}

/** A hook that holds up what it stands before, until it is let go. */
export function makeGate(): { readonly hook: () => Promise<void>; readonly reached: Promise<void>; open: () => void } {
  let open!: () => void;
  let reach!: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const hook = (): Promise<void> => {
    reach();
    return opened;
  };
  return { hook, reached, open };
}
