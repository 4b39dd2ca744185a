/**
 * The worker process: one device, three threads. This one computes; sockets live in the link thread, batches come from the feed
 * thread. It does what the coordinator says, in the order it says it, and decides nothing about the run.
 */
import type { Clock } from '../shared/clock.ts';
import { checkConfig } from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { assertInvariant, fromErrorRecord, toErrorRecord, toTrainerError, TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import { parameterDigest } from '../shared/checkpoint/parameter-digest.ts';
import { CheckpointWriter } from './checkpoint/checkpoint-writer.ts';
import { Arena } from './collective/arena.ts';
import { planLaneTree } from './collective/lane-tree.ts';
import { loadState } from './compute/load-state.ts';
import { planGradient } from './compute/plan-gradient.ts';
import { ProgressCell } from './compute/progress-cell.ts';
import { StepRunner, type Deal } from './compute/step-runner.ts';
import { createEngine } from './engine/create-engine.ts';
import type { Engine } from './engine/engine.ts';
import { Feed } from './feed/feed.ts';
import { Link, type Command } from './link/link.ts';

/** Microbatches that the feed thread may have ready. */
const FEED_SLOTS = 8;

export interface WorkerInit {
  readonly coordinatorUrl: string;
  readonly token: string;
  readonly workerId: string;
  readonly listenHost: string;
  readonly listenPort: number;
  readonly advertiseHost: string;
  /** Overrides the run's compute.engine. */
  readonly engine?: string;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What the first command brings up. */
interface Training {
  readonly config: RunConfig;
  readonly engine: Engine;
  readonly feed: Feed;
  readonly writer: CheckpointWriter;
}

export class Worker {
  readonly #init: WorkerInit;
  readonly #progress = new ProgressCell();
  readonly #link: Link;
  #training: Training | undefined;
  #runner: StepRunner | undefined;
  /** Updates applied. */
  #step = 0;
  /** A step could not be finished: no further one is begun until the coordinator decides. */
  #isStopped = false;

  constructor(init: WorkerInit) {
    this.#init = init;
    const { coordinatorUrl, token, workerId, listenHost, listenPort, advertiseHost } = init;
    this.#link = new Link({
      coordinatorUrl,
      token,
      workerId,
      listenHost,
      listenPort,
      advertiseHost,
      progress: this.#progress.memory,
      onRefused: (refusal) => this.#init.log.warn({ ...refusal }, 'connection refused'),
      onDeal: ({ step, lanes }) => this.#training?.feed.deal(step, lanes),
    });
  }

  /**
   * Joins and works until the coordinator says `finish`.
   * @throws what ended it otherwise: CONNECTION_LOST, an engine's or the feed's failure, ABORTED
   */
  async run(signal: AbortSignal): Promise<void> {
    try {
      for (;;) {
        const command = await this.#link.nextCommand(signal);
        if (command.kind === 'finish') break;
        await this.#obey(command);
      }
      await this.#training?.writer.idle();
    } catch (thrown) {
      const error = toTrainerError(thrown);
      this.#link.post({ kind: 'failed', error: toErrorRecord(error) });
      throw error;
    } finally {
      await this.#link.leave();
      await this.#training?.feed.stop();
      await this.#training?.writer.stop();
      await this.#training?.engine.dispose();
    }
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
        await this.#training?.feed.drop();
        this.#isStopped = true;
        this.#link.post({ kind: 'aborted', step: this.#step });
        break;
      case 'lost':
        throw fromErrorRecord(command.error);
    }
  }

  /** Brings up engine, feed and state, while the others do the same. */
  async #prepare(welcome: Extract<Command, { kind: 'welcome' }>): Promise<void> {
    const { log } = this.#init;
    const config = checkConfig(welcome.config, 'the config from the coordinator');
    const { featureLengths, training, seed, compute } = config;
    const feed = new Feed({
      preparedFolder: welcome.preparedFolder,
      mixtureHash: welcome.mixtureHash,
      seed,
      shape: {
        numRows: training.microbatchRows,
        inputsLength: featureLengths.inputs,
        targetsLength: featureLengths.targets,
      },
      numSlots: FEED_SLOTS,
    });
    const name = this.#init.engine ?? compute.engine;
    const { engine, reason } = await createEngine({ name, config: config.model, zLoss: training.zLoss });
    log.info({ engine: engine.description.name, device: engine.description.device, reason }, 'engine ready');
    this.#training = { config, engine, feed, writer: new CheckpointWriter(engine) };
    const state = await loadState(engine, seed, welcome.checkpoint, this.#link.stepSignal);
    await engine.load(state.parameters, state.optimizer);
    this.#step = welcome.step;
    await feed.opened;
    this.#progress.advance('waiting', this.#step);
    this.#link.post({
      kind: 'ready',
      step: this.#step,
      engine: engine.description.name,
      engineFingerprint: engine.description.fingerprint,
      mixtureHash: welcome.mixtureHash,
      paramDigest: parameterDigest(state.parameters),
      numParameters: [...state.parameters.values()].reduce((sum, { length }) => sum + length, 0),
    });
  }

  #form({ rank, worldSize, memory, layout }: Extract<Command, { kind: 'formed' }>): void {
    assertInvariant(this.#training !== undefined, 'a generation is formed after welcome');
    const { config, engine, feed } = this.#training;
    const { rowsPerStep, numLanes, microbatchRows } = config.training;
    this.#runner = new StepRunner({
      engine,
      feed,
      arena: new Arena(layout, memory),
      plan: planGradient(config),
      laneTree: planLaneTree(numLanes, worldSize),
      rank,
      microbatchesPerLane: rowsPerStep / numLanes / microbatchRows,
      reducer: this.#link,
      progress: this.#progress,
      clock: this.#init.clock,
    });
    this.#init.log.info({ rank, worldSize }, 'generation formed');
  }

  async #train(deal: Deal): Promise<void> {
    assertInvariant(this.#training !== undefined && this.#runner !== undefined, 'a deal follows formed');
    if (this.#isStopped) return;
    try {
      const { lanes, ms } = await this.#runner.run(deal, this.#link.stepSignal);
      this.#step = deal.step;
      this.#link.post({ kind: 'report', step: deal.step, lanes, ms });
    } catch (thrown) {
      this.#stopAfter(toTrainerError(thrown));
    }
  }

  /** The state is whole at the last applied step after these; anything else is fatal. */
  #stopAfter(error: TrainerError): void {
    const { log } = this.#init;
    this.#isStopped = true;
    log.warn({ code: error.code, reason: error.message, step: this.#step }, 'step not finished');
    const isCollective =
      error.reaction === 'transport' || error.reaction === 'protocol' || error.code === 'COLLECTIVE_TIMEOUT';
    if (error.code === 'ABORTED' || isCollective) return; // the link has told the coordinator, or was told by it
    if (error.code !== 'GRADIENT_NOT_FINITE') throw error;
    this.#link.post({ kind: 'failed', error: toErrorRecord(error) });
  }

  /** Takes a snapshot now and writes it in a thread of its own while training goes on. */
  async #save({ folder, writer, numWriters }: Extract<Command, { kind: 'save' }>): Promise<void> {
    assertInvariant(this.#training !== undefined, 'save follows welcome');
    const step = this.#step;
    this.#progress.advance('save', step);
    const { written } = await this.#training.writer.save({
      folder,
      writer,
      numWriters,
      maxShardBytes: this.#training.config.checkpoint.maxShardBytes,
    });
    written.then(
      ({ files, paramDigest }) => this.#link.post({ kind: 'saved', step, files: [...files], paramDigest }),
      (error: unknown) => this.#link.post({ kind: 'failed', error: toErrorRecord(error) }),
    );
  }
}
