/**
 * A worker of the simulation: the real link session, step runner and collective, the toy engine and feed, and between them the least of
 * what worker/worker.ts does. Link and compute are threads of one process there; here they are calls.
 */
import { checkConfig } from '../../shared/config/load-config.ts';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import type { TrainerError } from '../../shared/errors.ts';
import { assertInvariant, fromErrorRecord, toErrorRecord, toTrainerError } from '../../shared/errors.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import { Mailbox } from '../../shared/mailbox.ts';
import type { RandomStream } from '../../shared/random.ts';
import type { Transport } from '../../shared/transport/transport.ts';
import { Arena } from '../../worker/collective/arena.ts';
import { planGradient } from '../../worker/compute/plan-gradient.ts';
import { ProgressCell } from '../../worker/compute/progress-cell.ts';
import { StepRunner, type Reduced, type Reducer } from '../../worker/compute/step-runner.ts';
import { microbatchesPerLane } from '../../worker/feed/start-feed.ts';
import type { LinkEvent } from '../../worker/link/link-messages.ts';
import { LinkSession } from '../../worker/link/link-session.ts';
import { numElements } from '../../worker/model/parameters.ts';
import type { MemoryCheckpoints } from './memory-checkpoints.ts';
import { ToyEngine, type ToyEngineInit } from './toy-engine.ts';
import { ToyFeed } from './toy-feed.ts';
import type { VirtualProcess } from './virtual-process.ts';

const CAPACITY = 1_024;
/** Waits are renewed so often, ms. */
const WAIT_MS = 60_000;

export interface SimulatedWorkerInit {
  readonly process: VirtualProcess;
  readonly transport: Transport;
  readonly coordinatorUrl: string;
  readonly token: string;
  readonly mixture: PreparedMixture;
  readonly checkpoints: MemoryCheckpoints;
  /** Parameters of a run that starts from its seed. */
  readonly initial: ReadonlyMap<string, Float32Array>;
  /** Times of engine and feed. */
  readonly random: RandomStream;
  readonly mishap?: NonNullable<ToyEngineInit['mishap']>;
}

type Command = Extract<LinkEvent, { kind: 'welcome' | 'formed' | 'deal' | 'save' | 'abort' | 'finish' | 'lost' }>;

interface Prepared {
  readonly config: ReturnType<typeof checkConfig>;
  readonly engine: ToyEngine;
  readonly feed: ToyFeed;
}

export class SimulatedWorker implements Reducer {
  readonly process: VirtualProcess;
  readonly #init: SimulatedWorkerInit;
  readonly #session: LinkSession;
  readonly #progress = new ProgressCell();
  readonly #commands: Mailbox<Command>;
  readonly #sums: Mailbox<Extract<LinkEvent, { kind: 'reduced' | 'collective-failed' }>>;
  readonly #stop = new AbortController();
  #prepared: Prepared | undefined;
  #runner: StepRunner | undefined;
  /** As in worker/worker.ts: stopped, a step was not reached; aborted, what is applied may be saved. */
  #phase: 'training' | 'stopped' | 'aborted' = 'training';
  #step = 0;
  #outcome: 'working' | 'finished' | TrainerError = 'working';

  constructor(init: SimulatedWorkerInit) {
    this.#init = init;
    this.process = init.process;
    const { process, transport, coordinatorUrl, token } = init;
    const { clock, name: workerId } = process;
    this.#commands = new Mailbox(CAPACITY, clock);
    this.#sums = new Mailbox(2, clock);
    const address = { listenHost: '127.0.0.1', listenPort: 0, advertiseHost: '127.0.0.1' };
    const data = { coordinatorUrl, token, workerId, ...address, progress: this.#progress.memory };
    const emit = (event: LinkEvent): void => this.#take(event);
    this.#session = new LinkSession({ data, transport, clock, emit, onEnd: () => undefined });
  }

  /** How it ended, once it has. */
  get outcome(): 'working' | 'finished' | TrainerError {
    return this.#outcome;
  }

  /** Updates applied. */
  get step(): number {
    return this.#step;
  }

  /** It holds parameters. */
  get isPrepared(): boolean {
    return this.#prepared !== undefined;
  }

  /** The digest of its parameters as they are now. */
  async paramDigest(): Promise<string> {
    return parameterDigest((await this.#state()).parameters);
  }

  async run(): Promise<void> {
    void this.#session.start();
    try {
      for (;;) {
        const command = await this.#commands.next(WAIT_MS);
        if (command?.kind === 'finish') break;
        if (command !== undefined) await this.#obey(command);
      }
      this.#outcome = 'finished';
    } catch (error) {
      this.#outcome = toTrainerError(error);
      this.#session.take({ kind: 'failed', error: toErrorRecord(error) });
    }
    this.#session.take({ kind: 'leave', reason: 'the run is over' });
  }

  beginStep(step: number): void {
    this.#session.take({ kind: 'begin-step', step });
  }

  bucketReady(bucket: number): void {
    this.#session.take({ kind: 'bucket-ready', bucket });
  }

  async reduced(step: number, signal: AbortSignal): Promise<Reduced> {
    for (;;) {
      const event = await this.#sums.next(WAIT_MS, signal);
      if (event?.kind === 'collective-failed') throw fromErrorRecord(event.error);
      if (event === undefined) continue;
      assertInvariant(event.step === step, `reduced step ${event.step} while step ${step} is under way`);
      return event;
    }
  }

  #take(event: LinkEvent): void {
    switch (event.kind) {
      case 'reduced':
      case 'collective-failed':
        this.#sums.put(event);
        return;
      case 'refused':
      case 'no-outbox':
      case 'waiting':
        return;
      case 'abort':
      case 'lost':
        this.#stop.abort();
        break;
      case 'deal':
        this.#prepared?.feed.deal(event.step, event.lanes);
        break;
      case 'welcome':
      case 'formed':
      case 'save':
      case 'finish':
        break;
    }
    assertInvariant(this.#commands.put(event), `fewer than ${CAPACITY} commands wait`);
  }

  async #obey(command: Exclude<Command, { kind: 'finish' }>): Promise<void> {
    switch (command.kind) {
      case 'welcome':
        await this.#prepare(command);
        break;
      case 'formed':
        this.#form(command);
        break;
      case 'deal':
        await this.#train(command);
        break;
      case 'save':
        await this.#save(command);
        break;
      case 'abort':
        this.#phase = 'aborted';
        await this.#prepared?.feed.drop();
        this.#session.take({ kind: 'aborted', step: this.#step });
        break;
      case 'lost':
        throw fromErrorRecord(command.error);
    }
  }

  async #prepare(welcome: Extract<Command, { kind: 'welcome' }>): Promise<void> {
    const { process, mixture, checkpoints, initial, random, mishap } = this.#init;
    const { clock } = process;
    const config = checkConfig(welcome.config, 'the config from the coordinator');
    const between = (least: number, most: number) => (): number => least + random.nextFloat() * (most - least);
    const hooks = mishap === undefined ? {} : { mishap };
    const engine = new ToyEngine({
      config: config.model,
      clock,
      stepMs: between(5, 20),
      applyMs: between(1, 10),
      ...hooks,
    });
    const { microbatchRows } = config.training;
    const feed = new ToyFeed({
      mixture,
      seed: config.seed,
      microbatchRows,
      microbatchesPerLane: microbatchesPerLane(config),
      clock,
      delayMs: between(0, 2),
    });
    const saved = welcome.checkpoint === null ? undefined : checkpoints.read(welcome.checkpoint);
    const parameters = saved?.parameters ?? initial;
    await engine.load(parameters, saved?.optimizer ?? 'zero');
    await feed.opened;
    this.#step = welcome.step;
    this.#prepared = { config, engine, feed };
    this.#progress.advance('waiting', this.#step);
    this.#session.take({
      kind: 'ready',
      step: this.#step,
      engine: engine.description.name,
      engineFingerprint: engine.description.fingerprint,
      mixtureHash: welcome.mixtureHash,
      paramDigest: parameterDigest(parameters),
      numParameters: [...parameters.values()].reduce((sum, { length }) => sum + length, 0),
    });
  }

  #form({ rank, worldSize, memory, layout }: Extract<Command, { kind: 'formed' }>): void {
    const { config, engine, feed } = this.#work();
    this.#runner = new StepRunner({
      engine,
      feed,
      arena: new Arena(layout, memory),
      plan: planGradient(config),
      laneTree: planLaneTree(config.training.numLanes, worldSize),
      rank,
      microbatchesPerLane: microbatchesPerLane(config),
      taskNames: this.#init.mixture.taskNames,
      reducer: this,
      progress: this.#progress,
      clock: this.process.clock,
    });
  }

  async #train(deal: Extract<Command, { kind: 'deal' }>): Promise<void> {
    assertInvariant(this.#runner !== undefined, 'a deal follows formed');
    if (this.#phase !== 'training') return;
    try {
      const { lanes, ms } = await this.#runner.run(deal, this.#stop.signal);
      this.#step = deal.step;
      this.#session.take({ kind: 'report', step: deal.step, lanes, ms });
    } catch (error) {
      if (!this.#runner.isStateWhole) throw error;
      this.#phase = 'stopped';
      const { code } = toTrainerError(error);
      if (code !== 'ABORTED' && code !== 'CONNECTION_LOST')
        this.#session.take({ kind: 'failed', error: toErrorRecord(error) });
    }
  }

  async #save({ folder, writer, numWriters }: Extract<Command, { kind: 'save' }>): Promise<void> {
    const { process, checkpoints } = this.#init;
    if (this.#phase === 'stopped') return;
    const state = await this.#state();
    const step = this.#step;
    checkpoints.ensureFolder(folder);
    checkpoints.writeShards(process, { folder, writer, numWriters, ...state }).then(
      ({ files, paramDigest }) => this.#session.take({ kind: 'saved', step, files: [...files], paramDigest }),
      (error: unknown) => this.#session.take({ kind: 'failed', error: toErrorRecord(error) }),
    );
  }

  async #state() {
    const { engine } = this.#work();
    const empty = (specs: ToyEngine['optimizerSlots']): Map<string, Float32Array> =>
      new Map(specs.map(({ name, shape }) => [name, new Float32Array(numElements(shape))]));
    const state = { parameters: empty(engine.parameters), optimizer: empty(engine.optimizerSlots) };
    await engine.readBack(state.parameters, state.optimizer);
    return state;
  }

  #work(): Prepared {
    assertInvariant(this.#prepared !== undefined, 'nothing is asked of a worker before welcome');
    return this.#prepared;
  }
}
