/**
 * The coordinator of a run: waits for workers, forms the generation, trains, and says at each moment what it is doing.
 * Control plane only: no tensor comes here. The decisions are in rendezvous, step-ledger, schedule and retention; this file
 * puts them in order.
 */
import { rm } from 'node:fs/promises';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { PlanCursor } from '../mixture/plan/planner.ts';
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { toTrainerError, TrainerError } from '../shared/errors.ts';
import { assignLanes } from '../shared/lane-tree.ts';
import type { Logger } from '../shared/logger.ts';
import type { WorkerMessage } from '../shared/protocol/messages.ts';
import type { Transport } from '../shared/transport/transport.ts';
import { pruneCheckpoints } from './checkpoint/prune.ts';
import { ControlServer, type ControlEvent, type WorkerHandle } from './control-server.ts';
import type { Journal } from './journal.ts';
import { planConfigOf } from './plan-config.ts';
import { decideRendezvous } from './rendezvous.ts';
import { RunSummary, type RunSummaryView } from './run-summary.ts';
import { salvage } from './salvage.ts';
import { Saver, type WrittenShards } from './saver.ts';
import { StepDealer } from './step-dealer.ts';
import { Training, type Generation } from './training.ts';

const TICK_MS = 200;
/** Time for the workers to leave after `finish`, ms. */
const FINISH_DEADLINE_MS = 10_000;

type ReadyMessage = Extract<WorkerMessage, { kind: 'ready' }>;

export interface StartingPoint {
  /** Updates already applied. */
  readonly step: number;
  readonly cursor?: PlanCursor;
  readonly checkpoint?: { readonly path: string; readonly paramDigest: string };
}

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
  readonly begin: (writingFolder: string) => Promise<void>;
  readonly publish: (written: WrittenShards) => Promise<{ bytes: number }>;
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
        this.#checkReady(members);
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

  /** All must hold the same parameters, engine and mixture. @throws STATE_DIVERGED, MIXTURE_MISMATCH, CHECKPOINT_CORRUPT */
  #checkReady(members: readonly WorkerHandle[]): void {
    const { mixture, start } = this.#init;
    const [first, ...others] = members;
    const reference = this.#ready.get(first!)!;
    const expectedDigest = start.checkpoint?.paramDigest ?? reference.paramDigest;
    for (const worker of [first!, ...others]) {
      const ready = this.#ready.get(worker)!;
      const differs = (what: string, expected: string, found: string) =>
        `${worker.toString()}: expected ${what} ${expected}, got ${found}; all workers must be alike`;
      if (ready.mixtureHash !== mixture.hash)
        throw new TrainerError('MIXTURE_MISMATCH', differs('mixture', mixture.hash, ready.mixtureHash));
      if (ready.engineFingerprint !== reference.engineFingerprint)
        throw new TrainerError(
          'STATE_DIVERGED',
          differs('engine', reference.engineFingerprint, ready.engineFingerprint),
        );
      if (ready.paramDigest !== expectedDigest)
        throw new TrainerError('STATE_DIVERGED', differs('parameters', expectedDigest, ready.paramDigest));
    }
  }

  async #train(members: readonly WorkerHandle[], signal: AbortSignal): Promise<void> {
    const { config, clock, log, journal, mixture, start } = this.#init;
    const generation = await this.#form(members, signal);
    const dealer = new StepDealer({
      plan: planConfigOf(config, mixture),
      tasks: mixture.tasks,
      schedule: config.schedule,
      rowsPerStep: config.training.rowsPerStep,
      numLanes: config.training.numLanes,
      step: start.step,
      ...(start.cursor === undefined ? {} : { cursor: start.cursor }),
    });
    let training: Training | undefined = undefined;
    const publish = (written: WrittenShards) => this.#init.publish(written);
    const { epoch, checkpointsFolder, begin } = this.#init;
    const saver = new Saver({ checkpointsFolder, epoch, clock, log, begin, publish });
    training = new Training({
      config,
      generation,
      events: this.#server.events,
      dealer,
      journal,
      saver,
      taskNames: mixture.taskNames,
      clock,
      log,
      savedStep: start.checkpoint === undefined ? -1 : start.step,
      onCommit: (summary, tokensPerSecond) => this.#summary.commit(summary, tokensPerSecond),
      onPublish: async (checkpoint) => {
        this.#summary.publish(checkpoint);
        await journal.append({
          kind: 'checkpoint-published',
          step: checkpoint.step,
          path: `checkpoints/step-${checkpoint.step}`,
          paramDigest: checkpoint.paramDigest,
        });
        await pruneCheckpoints(checkpointsFolder, config.checkpoint, checkpoint.step, log);
      },
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
      if (checkpoint !== undefined) this.#summary.publish(checkpoint);
      log.warn({ reason, checkpoint: checkpoint?.path }, 'survivors saved');
      await this.#dismiss(failure.message);
      throw failure;
    }
  }

  async #form(members: readonly WorkerHandle[], signal: AbortSignal): Promise<Generation> {
    const { epoch, config, journal, log, start } = this.#init;
    this.#phase = 'forming';
    const { runs, reason } = assignLanes(config.training.numLanes, members.length);
    const generation: Generation = { epoch, generation: 1, members, runs };
    this.#generation = generation;
    const firstStep = start.step + 1;
    const memberIds = members.map(({ workerId }) => workerId);
    const lanes = runs.map(({ first, end }): [number, number] => [first, end]);
    await journal.append({ kind: 'generation-formed', epoch, generation: 1, firstStep, members: memberIds, lanes });
    const views = members.map(({ workerId, host, dataUrl }, rank) => ({ workerId, rank, host, dataUrl }));
    for (const [rank, member] of members.entries())
      member.send({ kind: 'form', epoch, generation: 1, rank, members: views, firstStep });
    log.info({ epoch, generation: 1, worldSize: members.length, members: memberIds, reason }, 'generation formed');
    const waiting = new Set(members);
    const deadline = this.#init.clock.monotonicMs() + config.cluster.heartbeatTimeoutMs;
    while (waiting.size > 0) {
      this.#explain(`waiting for the data links of ${[...waiting].map(({ workerId }) => workerId).join(', ')}`);
      const leftMs = deadline - this.#init.clock.monotonicMs();
      const event = leftMs > 0 ? await this.#server.events.next(leftMs, signal) : undefined;
      if (event === undefined) throw new TrainerError('RENDEZVOUS_TIMEOUT', this.#waitingFor);
      if (event.kind === 'message' && event.message.kind === 'formed') waiting.delete(event.worker);
      else if (event.kind === 'message' && event.message.kind === 'failed')
        throw new TrainerError(
          'WORKER_LOST',
          `${event.worker.toString()} could not link up: ${event.message.error.message}`,
        );
      else if (event.kind === 'lost' && members.includes(event.worker)) throw event.error;
    }
    return generation;
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

/** Removes a folder that a crash or an abandoned save left. */
export async function discardFolder(folder: string): Promise<void> {
  await rm(folder, { recursive: true, force: true });
}
