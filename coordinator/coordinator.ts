/**
 * The coordinator of a run: waits for workers, forms the generation, trains, and says at each moment what it is doing.
 * Control plane only: no tensor comes here. The decisions are in rendezvous, step-ledger, schedule and retention; this file
 * puts them in order.
 */
import { dirname, relative } from 'node:path';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { toTrainerError, TrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { Transport } from '../shared/transport/transport.ts';
import { pruneCheckpoints } from './checkpoint/prune.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import { ControlServer, type ControlEvent, type WorkerHandle } from './control-server.ts';
import { checkAlike, formGeneration, type ReadyMessage } from './form-generation.ts';
import type { Journal } from './journal.ts';
import type { StartingPoint } from './open-run.ts';
import { planConfigOf } from './plan-config.ts';
import { decideRendezvous } from './rendezvous.ts';
import { RunSummary, type RunSummaryView } from './run-summary.ts';
import { salvage } from './salvage.ts';
import { Saver, type WrittenCheckpoint } from './saver.ts';
import { StepDealer } from './step-dealer.ts';
import { Training, type Generation } from './training.ts';

const TICK_MS = 200;
/** Time for the workers to leave after `finish`, ms. */
const FINISH_DEADLINE_MS = 10_000;

export interface CoordinatorInit {
  readonly config: RunConfig;
  readonly epoch: number;
  readonly start: StartingPoint;
  readonly mixture: PreparedMixture;
  readonly checkpointsFolder: string;
  readonly journal: Journal;
  readonly token: string;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Logger;
  readonly publish: (written: WrittenCheckpoint) => Promise<PublishedCheckpoint>;
}

export class Coordinator {
  readonly #init: CoordinatorInit;
  readonly #server: ControlServer;
  readonly #summary: RunSummary;
  readonly #ready = new Map<WorkerHandle, ReadyMessage>();
  #phase: 'starting' | 'rendezvous' | 'forming' | 'training' | 'ending' = 'starting';
  #waitingFor = '';
  #stopReason: string | undefined;
  #generation: Generation | undefined;
  #workerFailure: string | undefined;

  constructor(init: CoordinatorInit) {
    this.#init = init;
    const { config, transport, clock, log, token, start } = init;
    this.#summary = new RunSummary(start);
    const { listenHost: host, listenPort: port } = config.cluster;
    this.#server = new ControlServer({ transport, clock, log, host, port, token, status: () => this.status() });
  }

  /** @returns the URL for workers @throws PORT_IN_USE */
  async listen(): Promise<string> {
    const url = await this.#server.listen();
    this.#init.log.info({ url }, 'coordinator listens');
    return url;
  }

  /** Finish the steps that are dealt, save, and end; idempotent. */
  requestStop(reason: string): void {
    if (this.#stopReason !== undefined) return;
    this.#stopReason = reason;
    this.#init.log.info({ reason }, 'run is to stop');
  }

  /** A worker process that was started for this run has failed; before the first step nobody else would know. */
  workerFailed(reason: string): void {
    this.#workerFailure ??= reason;
  }

  /**
   * From rendezvous to the last checkpoint.
   * @throws the failure that ended the run, once what could be saved is saved
   */
  async run(signal: AbortSignal): Promise<RunSummaryView> {
    try {
      const members = await this.#rendezvous(signal);
      if (members.length > 0) await this.#train(members, signal);
      await this.#finish();
      return this.#summary.view();
    } finally {
      await this.#server.close();
    }
  }

  /** JSON for GET /status and `exmix status`. */
  status(): object {
    const workers = this.#server.workers().map((worker) => {
      const rank = this.#generation?.members.indexOf(worker) ?? -1;
      const { workerId, host, pid, phase, step } = worker;
      return { workerId, host, pid, phase, step, rank: rank < 0 ? null : rank };
    });
    const { name, training } = this.#init.config;
    const ids = { epoch: this.#init.epoch, generation: this.#generation?.generation ?? 0 };
    return {
      name,
      phase: this.#phase,
      waitingFor: this.#waitingFor,
      steps: training.steps,
      ...ids,
      workers,
      ...this.#summary.view(),
    };
  }

  /** @returns the ready workers in rank order; none when the run was stopped before it began */
  async #rendezvous(signal: AbortSignal): Promise<WorkerHandle[]> {
    const { clock, config } = this.#init;
    const { minWorkers, rendezvousTimeoutMs: timeoutMs } = config.cluster;
    this.#phase = 'rendezvous';
    const startedMs = clock.monotonicMs();
    while (this.#stopReason === undefined) {
      if (this.#workerFailure !== undefined) throw new TrainerError('WORKER_LOST', this.#workerFailure);
      const candidates = this.#server.workers().map((worker) => {
        const state = this.#ready.has(worker) ? ('ready' as const) : ('joined' as const);
        return { workerId: worker.workerId, host: worker.host, state };
      });
      const options = { minWorkers, maxWorkers: config.training.numLanes, timeoutMs };
      const decision = decideRendezvous(clock.monotonicMs() - startedMs, candidates, options);
      this.#explain(decision.reason);
      if (decision.kind === 'fail') throw new TrainerError('RENDEZVOUS_TIMEOUT', decision.reason);
      if (decision.kind === 'form') {
        const workers = this.#server.workers();
        const members = decision.workerIds.map((id) => workers.find(({ workerId }) => workerId === id)!);
        const { mixture, start } = this.#init;
        checkAlike(
          new Map(members.map((member) => [member, this.#ready.get(member)!])),
          mixture.hash,
          start.checkpoint?.paramDigest,
        );
        return members;
      }
      const event = await this.#server.events.next(TICK_MS, signal);
      if (event !== undefined) this.#welcome(event);
    }
    return [];
  }

  #welcome(event: ControlEvent): void {
    const { config, epoch, mixture, start, log } = this.#init;
    const { worker } = event;
    if (event.kind === 'joined') {
      log.info({ workerId: worker.workerId, host: worker.host, pid: worker.pid }, 'worker joined');
      worker.send({
        kind: 'welcome',
        epoch,
        config,
        preparedFolder: mixture.folder,
        mixtureHash: mixture.hash,
        checkpoint: start.checkpoint?.path ?? null,
        step: start.step,
      });
    } else if (event.kind === 'lost') {
      this.#ready.delete(worker);
      log.warn({ workerId: worker.workerId, reason: event.error.message }, 'worker left before the first step');
    } else if (event.message.kind === 'failed') {
      const { code, message } = event.message.error;
      throw new TrainerError('WORKER_LOST', `${worker.toString()} could not get ready: ${code}: ${message}`);
    } else if (event.message.kind === 'ready') {
      this.#ready.set(worker, event.message);
      const { engine, engineFingerprint, numParameters } = event.message;
      log.info({ workerId: worker.workerId, engine, engineFingerprint, numParameters }, 'worker ready');
    } else
      throw new TrainerError(
        'MESSAGE_INVALID',
        `${worker.workerId} sent ${event.message.kind} before the generation was formed`,
      );
  }

  async #train(members: readonly WorkerHandle[], signal: AbortSignal): Promise<void> {
    const { config, epoch, clock, log, journal, mixture, start, checkpointsFolder, publish } = this.#init;
    this.#phase = 'forming';
    const explain = (reason: string): void => this.#explain(reason);
    const ids = { epoch, generation: 1, firstStep: start.step + 1 };
    const generation = await formGeneration({
      ...ids,
      members,
      config,
      server: this.#server,
      journal,
      clock,
      log,
      explain,
      signal,
    });
    this.#generation = generation;
    this.#summary.formed(members.length);
    const dealer = new StepDealer({
      plan: planConfigOf(config, mixture),
      tasks: mixture.tasks,
      schedule: config.schedule,
      rowsPerStep: config.training.rowsPerStep,
      numLanes: config.training.numLanes,
      step: start.step,
      ...(start.cursor === undefined ? {} : { cursor: start.cursor }),
    });
    const saver = new Saver({ checkpointsFolder, epoch, clock, log, publish });
    const training = new Training({
      config,
      generation,
      events: this.#server.events,
      dealer,
      journal,
      saver,
      taskNames: mixture.taskNames,
      clock,
      log,
      savedStep: start.step,
      onCommit: (summary, tokensPerSecond) => this.#summary.commit(summary, tokensPerSecond),
      onPublish: (checkpoint) => this.#published(checkpoint),
      stopReason: () => this.#stopReason,
    });
    this.#phase = 'training';
    this.#explain('');
    try {
      await training.run(signal);
    } catch (thrown) {
      const failure = toTrainerError(thrown);
      this.#phase = 'ending';
      log.error({ code: failure.code, reason: failure.message, step: training.committedStep }, 'run failed');
      const { checkpoint, reason } = await salvage({
        failure,
        server: this.#server,
        generation,
        training,
        saver,
        clock,
      });
      if (checkpoint !== undefined) await this.#published(checkpoint);
      log.warn({ reason, checkpoint: checkpoint?.path }, 'survivors saved');
      await this.#dismiss(failure.message);
      throw failure;
    }
  }

  async #published(checkpoint: PublishedCheckpoint): Promise<void> {
    const { journal, checkpointsFolder, config, log } = this.#init;
    const { step, path, paramDigest } = checkpoint;
    this.#summary.publish(checkpoint);
    await journal.append({
      kind: 'checkpoint-published',
      step,
      path: relative(dirname(checkpointsFolder), path),
      paramDigest,
    });
    const { keepLast, keepEverySteps } = config.checkpoint;
    const retention = { keepLast, ...(keepEverySteps === undefined ? {} : { keepEvery: keepEverySteps }) };
    const inUse = new Map([[step, 'it was just published']]);
    for (const removed of await pruneCheckpoints(checkpointsFolder, retention, inUse))
      log.info({ ...removed }, 'checkpoint removed');
  }

  async #finish(): Promise<void> {
    const { journal, epoch, log } = this.#init;
    this.#phase = 'ending';
    const view = this.#summary.view();
    const { step, checkpoint } = view;
    if (this.#stopReason === undefined) await journal.append({ kind: 'run-finished', epoch, step });
    else await journal.append({ kind: 'run-interrupted', epoch, step, reason: this.#stopReason });
    const fields = {
      step,
      paramDigest: view.paramDigest,
      checkpoint: checkpoint ?? null,
      interrupted: this.#stopReason,
    };
    log.info(fields, this.#stopReason === undefined ? 'run finished' : 'run interrupted');
    await this.#dismiss(this.#stopReason ?? 'the run is finished');
  }

  /** Tells every worker to leave and waits for them a while. */
  async #dismiss(reason: string): Promise<void> {
    const workers = this.#server.workers();
    for (const worker of workers) worker.send({ kind: 'finish', reason });
    const timer = new AbortController();
    const late = this.#init.clock.sleep(FINISH_DEADLINE_MS, timer.signal).catch(() => undefined);
    await Promise.race([Promise.all(workers.map(({ closed }) => closed)), late]);
    timer.abort();
    for (const worker of this.#server.workers()) worker.close(reason);
  }

  /** What the run waits for: logged when it changes. */
  #explain(reason: string): void {
    if (reason === this.#waitingFor) return;
    this.#waitingFor = reason;
    if (reason !== '') this.#init.log.info({ reason }, 'waiting');
  }
}
