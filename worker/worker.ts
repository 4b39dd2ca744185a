/**
 * The worker process: one device, three threads. This one computes; sockets live in the link thread, batches come from the feed
 * thread. It does what the coordinator says, in the order it says it, and decides nothing about the run.
 */
import { availableParallelism } from 'node:os';
import type { Clock } from '../shared/clock.ts';
import { checkConfig } from '../shared/config/load-config.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { assertInvariant, fromErrorRecord, toErrorRecord, toTrainerError, TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { WorkerStall } from '../shared/protocol/messages.ts';
import { RefusalLog } from '../shared/refusal-log.ts';
import { parameterDigest } from '../shared/checkpoint/parameter-digest.ts';
import { abortable } from './abortable.ts';
import { CheckpointWriter } from './checkpoint/checkpoint-writer.ts';
import type { WrittenShards } from './checkpoint/shard-writer.ts';
import { Arena } from './collective/arena.ts';
import { assignLanes } from '../shared/assign-lanes.ts';
import { planLaneTree } from '../shared/lane-tree.ts';
import { loadState } from './compute/load-state.ts';
import { predictWorker } from './compute/predict-worker.ts';
import { planGradient } from './compute/plan-gradient.ts';
import { ProgressCell } from './compute/progress-cell.ts';
import { StepRunner, type Deal } from './compute/step-runner.ts';
import { createEngine } from './engine/create-engine.ts';
import type { Engine } from './engine/engine.ts';
import type { Feed } from './feed/feed.ts';
import { microbatchesPerLane, startFeed } from './feed/start-feed.ts';
import { Link, type Command } from './link/link.ts';

/** The most that a `ready` carries (shared/protocol/messages.ts). */
const MAX_ENGINE_NOTES = 16;

export interface WorkerInit {
  readonly coordinatorUrl: string;
  readonly token: string;
  readonly workerId: string;
  readonly listenHost: string;
  readonly listenPort: number;
  readonly advertiseHost: string;
  /** Overrides the run's compute.engine. */
  readonly engine?: string;
  /** Overrides the run's compute.device. */
  readonly device?: RunConfig['compute']['device'];
  /** Place among the workers of its host, from 0: which GPU is its own. */
  readonly localRank?: number;
  readonly clock: Clock;
  readonly log: Logger;
}

/** What the first command brings up. */
interface Training {
  readonly config: RunConfig;
  readonly engine: Engine;
  readonly feed: Feed;
  readonly taskNames: readonly string[];
  readonly writer: CheckpointWriter;
}

/**
 * `stopped`: a step could not be finished, and what was dealt or asked to be saved behind it cannot be done either; the
 * coordinator decides. `aborted`: it has decided; what is applied stays, and may be saved.
 */
type Phase = 'training' | 'stopped' | 'aborted';

export class Worker {
  readonly #init: WorkerInit;
  readonly #progress = new ProgressCell();
  readonly #link: Link;
  #training: Training | undefined;
  #runner: StepRunner | undefined;
  /** Updates applied. */
  #step = 0;
  #phase: Phase = 'training';
  /** End what has been brought up, the newest first. */
  readonly #closers: (() => Promise<void>)[] = [];

  constructor(init: WorkerInit) {
    this.#init = init;
    const refusals = new RefusalLog(init.log, init.clock);
    const { coordinatorUrl, token, workerId, listenHost, listenPort, advertiseHost } = init;
    this.#link = new Link({
      coordinatorUrl,
      token,
      workerId,
      listenHost,
      listenPort,
      advertiseHost,
      progress: this.#progress.memory,
      onRefused: (refusal) => refusals.refused(refusal),
      onNoOutbox: ({ code, message }) => this.#init.log.warn({ code, reason: message }, 'no outbox'),
      onWaiting: (reason) => this.#init.log.info({ reason }, 'waiting for the coordinator'),
      onDeal: ({ step, lanes }) => {
        assertInvariant(this.#training !== undefined, 'a deal comes after `ready`');
        this.#training.feed.deal(step, lanes);
      },
    });
  }

  /**
   * Joins and works until the coordinator says `finish`. Call it once.
   * @throws what ended it otherwise: CONNECTION_LOST, an engine's or the feed's failure, ABORTED by the signal
   */
  async run(signal: AbortSignal): Promise<void> {
    const stop = AbortSignal.any([signal, this.#link.stepSignal]);
    let reason = 'the run is over';
    try {
      for (;;) {
        const command = await this.#link.nextCommand(signal);
        if (command.kind === 'finish') break;
        await this.#obey(command, signal, stop);
      }
      await abortable(this.#training?.writer.idle() ?? Promise.resolve(), signal, 'writing the last checkpoint');
    } catch (thrown) {
      const error = toTrainerError(thrown);
      reason = error.message;
      if (signal.aborted) {
        // To the coordinator this worker has left; it has not failed.
        reason = `the worker was told to stop (${String(signal.reason)})`;
        throw new TrainerError('ABORTED', reason, { cause: error });
      }
      this.#link.post({ kind: 'failed', error: toErrorRecord(error) });
      throw error;
    } finally {
      await this.#close(reason);
    }
  }

  async #close(reason: string): Promise<void> {
    for (const close of [() => this.#link.leave(reason), ...this.#closers.reverse()])
      try {
        await close();
      } catch (error) {
        this.#init.log.warn({ reason: toTrainerError(error).message }, 'not closed in order');
      }
  }

  /** @param signal of the process @param stop of the step as well: also fires when the coordinator calls it off or is gone */
  async #obey(command: Exclude<Command, { kind: 'finish' }>, signal: AbortSignal, stop: AbortSignal): Promise<void> {
    switch (command.kind) {
      case 'welcome':
        await this.#prepare(command, stop);
        break;
      case 'formed':
        this.#form(command);
        break;
      case 'deal':
        await this.#train(command, stop);
        break;
      case 'save':
        await this.#save(command, signal);
        break;
      case 'abort':
        await this.#abort();
        break;
      case 'lost':
        throw fromErrorRecord(command.error);
    }
  }

  /** Brings up engine, feed and state, while the others do the same. */
  async #prepare(welcome: Extract<Command, { kind: 'welcome' }>, stop: AbortSignal): Promise<void> {
    const { log } = this.#init;
    const config = checkConfig(welcome.config, 'the config from the coordinator');
    const { training, seed, compute } = config;
    const { preparedFolder, mixtureHash } = welcome;
    const onStall = (stall: WorkerStall | null): void => this.#link.post({ kind: 'source', stall });
    const feed = startFeed({ config, preparedFolder, mixtureHash, log, onStall });
    this.#closers.push(() => feed.stop());
    const { engine, reason, notes } = await createEngine({
      name: this.#init.engine ?? compute.engine,
      device: this.#init.device ?? compute.device,
      // 0 is settled by `exmix train` for its workers; a worker of its own on a host takes all of it.
      numThreads: compute.threads === 0 ? availableParallelism() : compute.threads,
      precision: compute.precision,
      xla: compute.xla,
      allowTf32: compute.allowTf32,
      localRank: this.#init.localRank ?? 0,
      config: config.model,
      zLoss: training.zLoss,
      onWarning: (reason) => log.warn({ reason }, 'engine not as it could be'),
    });
    this.#closers.push(() => engine.dispose());
    const writer = new CheckpointWriter(engine);
    this.#closers.push(() => writer.callOff());
    const { name, device, fingerprint } = engine.description;
    log.info({ engine: name, device, fingerprint, reason }, 'engine ready');
    for (const note of notes) log.warn({ reason: note }, 'engine not as it could be');
    const predicted = await predictWorker(config, name);
    const { checkpoint, step } = welcome;
    const state = await loadState({ engine, seed, checkpoint, step, signal: stop });
    await engine.load(state.parameters, state.optimizer);
    this.#step = step;
    const taskNames = await abortable(feed.opened, stop, `opening ${preparedFolder}`);
    this.#training = { config, engine, feed, taskNames, writer };
    this.#progress.advance('waiting', this.#step);
    this.#link.post({
      kind: 'ready',
      step: this.#step,
      engine: name,
      engineFingerprint: fingerprint,
      engineNotes: notes.slice(0, MAX_ENGINE_NOTES),
      predicted,
      mixtureHash: welcome.mixtureHash,
      paramDigest: parameterDigest(state.parameters),
      numParameters: [...state.parameters.values()].reduce((sum, { length }) => sum + length, 0),
    });
  }

  #form({ rank, worldSize, memory, layout }: Extract<Command, { kind: 'formed' }>): void {
    assertInvariant(this.#training !== undefined, 'a generation is formed after welcome');
    const { config, engine, feed, taskNames } = this.#training;
    const { numLanes } = config.training;
    this.#runner = new StepRunner({
      engine,
      feed,
      arena: new Arena(layout, memory),
      plan: planGradient(config),
      laneTree: planLaneTree(numLanes, assignLanes(numLanes, worldSize).runs),
      rank,
      microbatchesPerLane: microbatchesPerLane(config),
      taskNames,
      reducer: this.#link,
      progress: this.#progress,
      clock: this.#init.clock,
    });
    this.#init.log.info({ rank, worldSize }, 'generation formed');
  }

  async #train(deal: Deal, stop: AbortSignal): Promise<void> {
    assertInvariant(this.#runner !== undefined, 'a deal follows formed');
    if (this.#phase !== 'training') return;
    try {
      const { lanes, ms } = await this.#runner.run(deal, stop);
      this.#step = deal.step;
      this.#link.post({ kind: 'report', step: deal.step, lanes, ms });
    } catch (thrown) {
      const error = toTrainerError(thrown);
      if (!this.#runner.isStateWhole) throw error;
      this.#stopAfter(error, deal.step);
    }
  }

  /** Nothing of the step was applied: this worker still holds the state of the last one, which may be saved. */
  #stopAfter(error: TrainerError, step: number): void {
    this.#phase = 'stopped';
    this.#progress.advance('waiting', this.#step);
    this.#init.log.warn({ code: error.code, reason: error.message, step }, 'step not finished');
    // Of these the link has told the coordinator, or was told by it.
    if (error.code === 'ABORTED' || error === this.#link.collectiveError) return;
    this.#link.post({ kind: 'failed', error: toErrorRecord(error) });
  }

  /** Drops the step and the checkpoint under way: nothing of either is sent after `aborted`. */
  async #abort(): Promise<void> {
    this.#phase = 'aborted';
    await this.#training?.feed.drop();
    await this.#training?.writer.callOff();
    this.#progress.advance('waiting', this.#step);
    this.#link.post({ kind: 'aborted', step: this.#step });
  }

  /** Takes a snapshot now and writes it in a thread of its own while training goes on. */
  async #save(command: Extract<Command, { kind: 'save' }>, signal: AbortSignal): Promise<void> {
    assertInvariant(this.#training !== undefined, 'save follows welcome');
    if (this.#phase === 'stopped') return; // the step it asks for was not reached
    const { folder, writer, numWriters } = command;
    const { maxShardBytes } = this.#training.config.checkpoint;
    this.#progress.advance('save', this.#step);
    const { written } = await this.#training.writer.save({ folder, writer, numWriters, maxShardBytes }, signal);
    this.#progress.advance('waiting', this.#step);
    void this.#reportWritten(written, this.#step);
  }

  async #reportWritten(written: Promise<WrittenShards>, step: number): Promise<void> {
    try {
      const { files, paramDigest } = await written;
      this.#link.post({ kind: 'saved', step, files: [...files], paramDigest });
    } catch (thrown) {
      const error = toTrainerError(thrown);
      this.#init.log.warn({ code: error.code, reason: error.message, step }, 'checkpoint not written');
      if (error.code !== 'ABORTED') this.#link.post({ kind: 'failed', error: toErrorRecord(error) });
    }
  }
}
