/**
 * A worker of the simulation: the real worker, network session, collective and step runner, with toy engine and feed and a simulated disk.
 * Messages between compute and network thread arrive a little later and in order, as between real threads.
 */
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { toErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import type { RandomStream } from '../../shared/random.ts';
import type { Transport } from '../../shared/transport/transport.ts';
import type { Engine } from '../../worker/engine/engine.ts';
import type { ArenaPool } from '../../worker/arena/arena.ts';
import { microbatchesPerLane } from '../../worker/feed/start-feed.ts';
import { DataPlane } from '../../worker/network/data-plane.ts';
import type { NetworkPort } from '../../worker/network/network-client.ts';
import type { NetworkEvent, NetworkRequest } from '../../worker/network/network-messages.ts';
import { NetworkSession } from '../../worker/network/network-session.ts';
import { numElements } from '../../worker/model/parameters.ts';
import { Worker } from '../../worker/worker.ts';
import type { WorkerParts } from '../../worker/worker-parts.ts';
import type { MemoryCheckpoints } from './memory-checkpoints.ts';
import { ToyEngine, type Mishap, type ToyEngineInit } from './toy-engine.ts';
import { ToyFeed } from './toy-feed.ts';
import type { VirtualProcess } from './virtual-process.ts';

/** Longest delay of a message between two threads, ms. */
const THREAD_DELAY_MS = 0.25;

export interface SimulatedWorkerInit {
  readonly process: VirtualProcess;
  readonly transport: Transport;
  readonly coordinatorUrl: string;
  readonly token: string;
  readonly mixture: PreparedMixture;
  readonly checkpoints: MemoryCheckpoints;
  readonly arenas: ArenaPool;
  /** Parameters of a run that starts at step 0. */
  readonly initial: ReadonlyMap<string, Float32Array>;
  /** For the delays of engine, feed and threads. */
  readonly random: RandomStream;
  /** World size of the last generation. */
  readonly worldSize: () => number;
  readonly mishap?: NonNullable<ToyEngineInit['mishap']>;
  readonly onLog?: (record: LogRecord) => void;
}

export class SimulatedWorker {
  readonly process: VirtualProcess;
  readonly #init: SimulatedWorkerInit;
  #engine: ToyEngine | undefined;
  /** Fault of the next call of this kind. */
  #nextMishap: { readonly call: 'step' | 'apply'; readonly mishap: Mishap } | undefined;
  #outcome: 'working' | 'finished' | TrainerError = 'working';

  constructor(init: SimulatedWorkerInit) {
    this.#init = init;
    this.process = init.process;
  }

  /** `working` until it has ended; then `finished` or its error. */
  get outcome(): 'working' | 'finished' | TrainerError {
    return this.#outcome;
  }

  /** Makes the next call of this kind fail. */
  spoilNext(call: 'step' | 'apply', mishap: Mishap): void {
    this.#nextMishap = { call, mishap };
  }

  /** Digest of its current parameters; undefined before they are loaded. */
  async paramDigest(): Promise<string | undefined> {
    if (this.#engine?.isLoaded !== true) return undefined;
    return parameterDigest((await readState(this.#engine)).parameters);
  }

  async run(): Promise<void> {
    const { process, onLog } = this.#init;
    const log = createLogger(onLog === undefined ? { level: 'error' } : { level: 'debug', onRecord: onLog });
    const worker = new Worker({ parts: this.#parts(), clock: process.clock, log });
    try {
      const never = new AbortController().signal;
      await worker.run({ gentle: never, atOnce: never });
      this.#outcome = 'finished';
    } catch (error) {
      this.#outcome = toTrainerError(error);
    }
  }

  #parts(): WorkerParts {
    const { process, mixture, checkpoints, initial, random } = this.#init;
    const { clock } = process;
    const between = (least: number, most: number) => (): number => least + random.nextFloat() * (most - least);
    return {
      startNetwork: (progress, onEvent) => this.#startNetwork(progress, onEvent),
      createEngine: ({ model }) => {
        this.#engine = new ToyEngine({
          config: model,
          clock,
          stepMs: between(5, 20),
          applyMs: between(1, 10),
          mishap: (call, numBefore) => this.#init.mishap?.(call, numBefore) ?? this.#removeMishap(call),
        });
        return Promise.resolve({ engine: this.#engine, reason: 'the simulation', notes: [] });
      },
      createEvaluationEngine: () => Promise.reject(new TrainerError('INTERNAL', 'the simulation evaluates no model')),
      startFeed: ({ config }) =>
        new ToyFeed({
          mixture,
          seed: config.seed,
          microbatchRows: config.training.microbatchRows,
          microbatchesPerLane: microbatchesPerLane(config),
          clock,
          delayMs: between(0, 2),
        }),
      loadState: async ({ checkpoint, signal }) => {
        await clock.sleep(between(0, 5)(), signal);
        if (checkpoint === null) return { parameters: initial, optimizer: 'zero' };
        const { parameters, optimizer } = checkpoints.read(checkpoint);
        return { parameters, optimizer };
      },
      createWriter: (engine) => {
        let writing = Promise.resolve<unknown>(undefined);
        return {
          save: async ({ folder, writer, numWriters }) => {
            const state = await readState(engine);
            const written = checkpoints.writeShards(process, { folder, writer, numWriters, ...state });
            writing = written.catch(() => undefined);
            return { written };
          },
          idle: () => writing.then(() => undefined),
          callOff: () => writing.then(() => undefined),
        };
      },
      predict: () => Promise.resolve(undefined),
    };
  }

  /** Keeps a flipped bit for later while there is one worker: no other worker could detect it. */
  #removeMishap(call: 'step' | 'apply'): Mishap | undefined {
    const next = this.#nextMishap;
    if (next?.call !== call || (next.mishap === 'flip-bit' && this.#init.worldSize() < 2)) return undefined;
    this.#nextMishap = undefined;
    return next.mishap;
  }

  #startNetwork(progress: SharedArrayBuffer, onEvent: (event: NetworkEvent) => void): NetworkPort {
    const { process, transport, coordinatorUrl, token, arenas } = this.#init;
    const { clock, name: workerId } = process;
    const address = { listenHost: '127.0.0.1', listenPort: 0, advertiseHost: '127.0.0.1' };
    const data = { coordinatorUrl, token, workerId, ...address, progress };
    let exit!: () => void;
    const exited = new Promise<void>((resolve) => (exit = resolve));
    const emit = this.#channel('network to compute', onEvent);
    const dataPlane = new DataPlane({
      ...{ data, transport, clock, arenas },
      onRefused: (refusal) => emit({ kind: 'refused', refusal }),
      onNoOutbox: (error) => emit({ kind: 'no-outbox', error: toErrorRecord(error) }),
    });
    const session = new NetworkSession({ data, transport, clock, dataPlane, emit, onEnd: exit });
    void session.start();
    const post = this.#channel('compute to network', (request: NetworkRequest) => session.handleRequest(request));
    return { post, exited, stop: () => Promise.resolve() };
  }

  /** A channel from one thread to the other: delays messages and keeps their order. */
  #channel<Message>(label: string, handle: (message: Message) => void): (message: Message) => void {
    const { process, random } = this.#init;
    let lastMs = 0;
    return (message) => {
      const nowMs = process.clock.monotonicMs();
      lastMs = Math.max(lastMs, nowMs + random.nextFloat() * THREAD_DELAY_MS);
      process.schedule(lastMs - nowMs, `${process.name}: ${label}`, () => handle(message));
    };
  }
}

async function readState(engine: Engine) {
  const empty = (specs: Engine['optimizerSlots']): Map<string, Float32Array> =>
    new Map(specs.map(({ name, shape }) => [name, new Float32Array(numElements(shape))]));
  const state = { parameters: empty(engine.parameters), optimizer: empty(engine.optimizerSlots) };
  await engine.readBack(state.parameters, state.optimizer);
  return state;
}
