/**
 * The coordinator of a run, for one epoch: gathers workers, forms a generation, trains, and when the generation is over forms the next
 * one from who is left and who has come (docs/decisions/0013). Control plane only: no tensor comes here. The decisions are in other files;
 * this one puts them in order.
 */
import { relative } from 'node:path';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import type { TrainerError } from '../shared/errors.ts';
import { toTrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { Transport } from '../shared/transport/transport.ts';
import type { CheckpointStore } from './checkpoint/checkpoint-store.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import { ControlServer } from './control-server.ts';
import { endGeneration, settleFurthest } from './end-generation.ts';
import { checkAlike, formGeneration, type Generation } from './form-generation.ts';
import { gatherWorkers } from './gather-workers.ts';
import type { Journal } from './journal.ts';
import { createStepRecorder, type StepSink } from './ledger/record-step.ts';
import type { RoomOnDisk } from './room-on-disk.ts';
import { planConfigOf } from './plan-config.ts';
import { predictRunOf } from './predicted-run.ts';
import { Roster, type ReadyWorker } from './roster.ts';
import { RunSummary, type RunSummaryView } from './run-summary.ts';
import { salvage } from './salvage.ts';
import { Saver } from './saver.ts';
import type { StartingPoint } from './starting-point.ts';
import { StepDealer } from './step-dealer.ts';
import { Steering } from './steering.ts';
import { steeringRoutes } from './steering-requests.ts';
import { Training, type GenerationEnding, type PastGeneration } from './training.ts';

export interface CoordinatorInit {
  readonly config: RunConfig;
  readonly runId: string;
  readonly epoch: number;
  readonly start: StartingPoint;
  /** The generation that trained last before this epoch goes on where it was; undefined where it begins from a checkpoint. */
  readonly before: PastGeneration | undefined;
  readonly mixture: PreparedMixture;
  /** Folder of the run, for paths in the journal. */
  readonly runFolder: string;
  readonly checkpoints: CheckpointStore;
  readonly journal: Pick<Journal, 'append'>;
  readonly ledger: StepSink;
  /** A full disk pauses the run; left out: it ends it. */
  readonly room?: RoomOnDisk;
  readonly token: string;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Logger;
}

export type EpochEnding =
  | { readonly kind: 'ended'; readonly summary: RunSummaryView }
  /**
   * Nobody holds the state of the last step any more: the run must be opened again, at an earlier step that somebody holds, or from its
   * newest checkpoint.
   */
  | { readonly kind: 'rewind'; readonly reason: string; readonly heldStep?: number };

export class Coordinator {
  readonly #init: CoordinatorInit;
  readonly #server: ControlServer;
  readonly #summary: RunSummary;
  readonly #roster: Roster;
  readonly #dealer: StepDealer;
  readonly #saver: Saver;
  readonly #training: Training;
  readonly #steering: Steering;
  #phase: 'starting' | 'rendezvous' | 'forming' | 'training' | 'ending' = 'starting';
  #waitingFor = '';
  #stopReason: string | undefined;
  /** The last one; it may be over. */
  #generation: Generation | undefined;
  #engineFingerprint = '';
  #workerFailure: string | undefined;
  /** What can be loaded in place of a state that nobody holds. */
  #loadable: { readonly step: number; readonly path?: string; readonly paramDigest?: string };

  /** @throws CONFIG_INVALID, MIXTURE_MISMATCH for a plan that cannot be gone on with */
  constructor(init: CoordinatorInit) {
    this.#init = init;
    const { config, runId, epoch, start, before, mixture, clock, log, journal } = init;
    const { sizes, tasks } = mixture;
    this.#summary = new RunSummary(start);
    init.room?.tellTo(log);
    this.#server = this.#createServer();
    this.#loadable = start.checkpoint ?? { step: 0 };
    this.#roster = new Roster({
      ...{ config, runId, epoch, mixture, log },
      epochBefore: before?.epoch,
      committedStep: () => this.#training.committedStep,
      onLateReport: (workerId, report) => this.#training.takeLateReport(workerId, report),
      onLateSaved: (worker, message) => this.#training.takeLateSaved(worker, message),
    });
    this.#dealer = new StepDealer({
      plan: planConfigOf(config, mixture, start.rateChanges),
      rateChanges: start.rateChanges,
      tasks,
      schedule: config.schedule,
      rowsPerStep: config.training.rowsPerStep,
      numLanes: config.training.numLanes,
      step: start.step,
      ...(start.cursor === undefined ? {} : { cursor: start.cursor }),
    });
    this.#steering = new Steering({ config, sizes, tasks, dealer: this.#dealer, journal, epoch, log });
    this.#saver = new Saver({
      ...{ epoch, clock, log },
      checkpoints: init.checkpoints,
      engineFingerprint: () => this.#engineFingerprint,
    });
    this.#training = new Training({
      ...{ config, epoch, before, journal, clock, log },
      server: this.#server,
      roster: this.#roster,
      dealer: this.#dealer,
      saver: this.#saver,
      taskNames: mixture.taskNames,
      record: createStepRecorder(init.ledger, tasks),
      savedStep: this.#loadable.step,
      onCommit: (summary, tokensPerSecond) => {
        this.#summary.commit(summary, tokensPerSecond);
        this.#steering.commit(summary, this.#training.committedCursor);
      },
      onPublish: (checkpoint) => this.#published(checkpoint),
      stopReason: () => this.#stopReason,
    });
  }

  /** @param port 0 takes a free one @returns the URL for workers @throws PORT_IN_USE */
  listen(port: number): Promise<string> {
    return this.#server.listen(port);
  }

  /** Finish the steps that are dealt, save, and end; idempotent. */
  requestStop(reason: string): void {
    if (this.#stopReason !== undefined) return;
    this.#stopReason = reason;
    this.#init.log.info({ reason }, 'run is to stop');
  }

  /** A worker process of this host was given up: where too few are left, nobody else would know that no more will come. */
  workerFailed(reason: string): void {
    this.#workerFailure ??= reason;
  }

  /** Committed steps that a worker took part in. */
  commitsOf(workerId: string): number {
    return this.#training.commitsOf(workerId);
  }

  /** Whether a worker is not wanted any more: the run ends, or it was excluded. */
  isOverFor(workerId: string): boolean {
    return this.#phase === 'ending' || this.#roster.excludedBecause(workerId) !== undefined;
  }

  /**
   * From rendezvous to the last checkpoint, through as many generations as it takes.
   * @throws the failure that ended the run, once what could be saved is saved
   */
  async run(signal: AbortSignal): Promise<EpochEnding> {
    let mayComeBack = false;
    try {
      const rewind = await this.#trainGenerations(signal);
      if (rewind !== undefined) {
        mayComeBack = true;
        return rewind;
      }
      await this.#finish();
      return { kind: 'ended', summary: this.#view() };
    } catch (thrown) {
      const failure = toTrainerError(thrown);
      await this.#fail(failure);
      throw failure;
    } finally {
      await this.#server.close(mayComeBack);
    }
  }

  /** JSON for GET /status and `exmix status`. */
  status(): object {
    const ranks = new Map((this.#generation?.members ?? []).map((worker, rank) => [worker, rank]));
    const workers = this.#server.workers().map((worker) => {
      const { workerId, host, pid, phase, step, stall } = worker;
      return { workerId, host, pid, phase, step, rank: ranks.get(worker) ?? null, stall };
    });
    const { name, training } = this.#init.config;
    const ids = { epoch: this.#init.epoch, generation: this.#generation?.generation ?? 0 };
    return {
      name,
      phase: this.#phase,
      waitingFor: this.#init.room?.waitingFor || this.#waitingFor,
      steps: training.steps,
      ...ids,
      workers,
      ...this.#view(),
    };
  }

  #createServer(): ControlServer {
    const { config, transport, clock, log, token } = this.#init;
    const { listenHost: host, heartbeatTimeoutMs: silenceMs } = config.cluster;
    const isSteered = (): boolean => this.#phase === 'training' || this.#phase === 'forming';
    const routes = {
      'GET /status': () => this.status(),
      ...steeringRoutes(() => (isSteered() && this.#generation !== undefined ? this.#steering : undefined)),
    };
    return new ControlServer({ transport, clock, log, host, token, silenceMs, routes });
  }

  #view(): RunSummaryView {
    return this.#summary.view(
      Math.max(0, ...(this.#generation?.members ?? []).map((worker) => worker.mostResidentBytes)),
    );
  }

  /** @returns why the run must go on from a checkpoint; undefined when it is over */
  async #trainGenerations(signal: AbortSignal): Promise<Extract<EpochEnding, { kind: 'rewind' }> | undefined> {
    const { roster, training, before } = { roster: this.#roster, training: this.#training, before: this.#init.before };
    for (let numFormed = 0; ; numFormed++) {
      this.#phase = 'rendezvous';
      const gathered = await gatherWorkers({
        ...this.#init,
        ...{ roster, signal },
        server: this.#server,
        before: this.#generation?.members.map(({ workerId }) => workerId) ?? before?.members,
        awaitsThem: numFormed === 0 && before !== undefined,
        committedStep: training.committedStep,
        needsHolder: this.#needsHolder(),
        explain: (reason) => this.#explain(reason),
        stopReason: () => this.#stopReason,
        workerFailure: () => this.#workerFailure,
      });
      if (gathered.kind === 'stopped') return undefined;
      if (gathered.kind === 'rewind') return this.#rewind(gathered.reason);
      await settleFurthest(roster, training);
      const members = gathered.members.map(({ worker }) => roster.of(worker)!);
      if (this.#needsHolder() && !members.some(({ heldStep }) => heldStep === training.committedStep))
        return this.#rewind(`nobody holds the state of step ${training.committedStep}`);
      const ending = await this.#trainGeneration(members, numFormed + 1, signal);
      if (ending.kind === 'done') return undefined;
      await this.#endGeneration(ending, signal);
    }
  }

  /** To the furthest step that somebody holds, where that is further than the newest checkpoint. */
  #rewind(reason: string): Extract<EpochEnding, { kind: 'rewind' }> {
    const heldStep = Math.max(-1, ...this.#roster.ready.map((worker) => worker.heldStep ?? -1));
    return { kind: 'rewind', reason, ...(heldStep > this.#loadable.step ? { heldStep } : {}) };
  }

  /** The state of the committed step is in no checkpoint. */
  #needsHolder(): boolean {
    return this.#training.committedStep !== this.#loadable.step;
  }

  async #trainGeneration(
    members: readonly ReadyWorker[],
    number: number,
    signal: AbortSignal,
  ): Promise<GenerationEnding> {
    const { config, mixture, epoch, journal, clock, log } = this.#init;
    checkAlike(members, mixture.hash);
    this.#compareEngine(members[0]!.facts.engineFingerprint);
    this.#phase = 'forming';
    const { path, paramDigest } = this.#loadable;
    const formed = await formGeneration({
      ...{ members, epoch, config, journal, clock, log, signal },
      generation: number,
      step: this.#training.committedStep,
      checkpoint: path === undefined ? undefined : { path, paramDigest: paramDigest! },
      roster: this.#roster,
      server: this.#server,
      explain: (reason) => this.#explain(reason),
    });
    const { generation } = formed;
    this.#generation = generation;
    if (formed.kind === 'broken') return formed;
    this.#summary.formed(members.length);
    const predicted = predictRunOf(members, generation.runs, config);
    if (predicted !== undefined) {
      this.#summary.predict(predicted);
      log.info({ stepMs: Math.round(predicted.stepMs), workerBytes: predicted.workerBytes }, 'step predicted');
    }
    this.#phase = 'training';
    this.#explain('');
    return this.#training.run(generation, signal);
  }

  async #endGeneration(ending: Exclude<GenerationEnding, { kind: 'done' }>, signal: AbortSignal): Promise<void> {
    const { log, clock } = this.#init;
    const generation = this.#generation!;
    const step = this.#training.committedStep;
    if (ending.kind === 'boundary') {
      for (const worker of generation.members) this.#roster.hold(worker, step);
      log.info({ step, reason: ending.reason }, 'generation changes');
      return;
    }
    const { error, culprit } = ending;
    log.warn({ step, code: error.code, reason: error.message }, 'generation ended');
    const [server, roster, training, saver] = [this.#server, this.#roster, this.#training, this.#saver];
    await endGeneration({ error, generation, server, roster, training, saver, clock, signal });
    if (culprit === undefined) return;
    roster.strike(culprit, step + 1, error.message);
    if (roster.of(culprit) !== undefined) culprit.drop('WORKER_LOST', error.message); // it failed and is still there
  }

  /** Another engine goes on from the same numbers, but not with the same bits: that must not go unsaid. */
  #compareEngine(found: string): void {
    const expected = this.#engineFingerprint || this.#init.start.checkpoint?.engineFingerprint;
    this.#engineFingerprint = found;
    if (expected === undefined || expected === found) return;
    const reason = 'from here on the bits are not those of the run that did not stop';
    this.#init.log.warn({ reason, expected, found }, 'engine changed');
  }

  /** The run ends with a failure: it is told once, what the survivors hold is saved, and everybody leaves. */
  async #fail(failure: TrainerError): Promise<void> {
    const { log, journal, epoch, clock, config } = this.#init;
    this.#phase = 'ending';
    this.#init.room?.stopWaiting(); // a run that has failed ends, also with a full disk
    const { code, message: reason } = failure;
    log.error({ code, reason, step: this.#summary.view().step }, 'run failed');
    // A second failure is told, and does not hide the first one nor keep the workers waiting.
    const onUnwritten = (error: unknown): void => {
      log.error({ reason: toTrainerError(error).message }, 'journal not written');
    };
    const generation = this.#generation;
    if (generation !== undefined) {
      const { stepTimeoutMs } = config.cluster;
      const [server, roster, training, saver] = [this.#server, this.#roster, this.#training, this.#saver];
      const saved = await salvage({ failure, server, generation, roster, training, saver, clock, stepTimeoutMs });
      if (saved.checkpoint !== undefined) await this.#published(saved.checkpoint).catch(onUnwritten);
      log.warn({ reason: saved.reason, checkpoint: saved.checkpoint?.path ?? null }, 'survivors asked to save');
    }
    const step = this.#training.committedStep;
    await journal.append({ kind: 'run-interrupted', epoch, step, reason: `${code}: ${reason}` }).catch(onUnwritten);
    await this.#server.dismiss(reason);
  }

  async #published(checkpoint: PublishedCheckpoint): Promise<void> {
    const { journal, checkpoints, runFolder, log } = this.#init;
    const { step, path, paramDigest } = checkpoint;
    this.#summary.publish(checkpoint);
    this.#loadable = checkpoint;
    await journal.append({ kind: 'checkpoint-published', step, path: relative(runFolder, path), paramDigest });
    for (const removed of await checkpoints.prune(step)) log.info({ ...removed }, 'checkpoint removed');
  }

  async #finish(): Promise<void> {
    const { journal, epoch, log } = this.#init;
    this.#phase = 'ending';
    const view = this.#summary.view();
    const { checkpoint, paramDigest } = view;
    const step = this.#training.committedStep;
    const reason = this.#stopReason;
    if (reason === undefined) await journal.append({ kind: 'run-finished', epoch, step });
    else await journal.append({ kind: 'run-interrupted', epoch, step, reason });
    const fields = { step, paramDigest, checkpoint: checkpoint ?? null, interrupted: reason };
    log.info(fields, reason === undefined ? 'run finished' : 'run interrupted');
    await this.#server.dismiss(reason ?? 'the run is finished');
  }

  /** What the run waits for: logged when it changes. */
  #explain(reason: string): void {
    if (reason === this.#waitingFor) return;
    this.#waitingFor = reason;
    if (reason !== '') this.#init.log.info({ reason }, 'waiting');
  }
}
