/**
 * The coordinator of a run: waits for workers, forms the generation, trains, and says at each moment what it is doing.
 * Control plane only: no tensor comes here. The decisions are in rendezvous, open-steps, schedule and retention; this file
 * puts them in order.
 */
import { dirname, relative } from 'node:path';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { Clock } from '../shared/clock.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import type { TrainerError } from '../shared/errors.ts';
import { toTrainerError } from '../shared/errors.ts';
import type { Logger } from '../shared/logger.ts';
import type { Transport } from '../shared/transport/transport.ts';
import { pruneCheckpoints } from './checkpoint/prune.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import { ControlServer, type WorkerHandle } from './control-server.ts';
import { checkAlike, formGeneration, type ReadyMessage } from './form-generation.ts';
import { gatherWorkers } from './gather-workers.ts';
import type { Journal } from './journal.ts';
import { createStepRecorder, type StepSink } from './ledger/record-step.ts';
import type { RoomOnDisk } from './room-on-disk.ts';
import type { StartingPoint } from './starting-point.ts';
import { planConfigOf } from './plan-config.ts';
import { predictRunOf } from './predicted-run.ts';
import { RunSummary, type RunSummaryView } from './run-summary.ts';
import { salvage } from './salvage.ts';
import { Saver, type WrittenCheckpoint } from './saver.ts';
import { StepDealer } from './step-dealer.ts';
import { Steering } from './steering.ts';
import { steeringRoutes } from './steering-requests.ts';
import { Training, type Generation } from './training.ts';

export interface CoordinatorInit {
  readonly config: RunConfig;
  readonly epoch: number;
  readonly start: StartingPoint;
  readonly mixture: PreparedMixture;
  readonly checkpointsFolder: string;
  readonly journal: Journal;
  readonly ledger: StepSink;
  /** A full disk pauses the run; left out: it ends it. */
  readonly room?: RoomOnDisk;
  readonly token: string;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Logger;
  readonly publish: (
    written: WrittenCheckpoint & { readonly engineFingerprint: string },
  ) => Promise<PublishedCheckpoint>;
}

export class Coordinator {
  readonly #init: CoordinatorInit;
  readonly #server: ControlServer;
  readonly #summary: RunSummary;
  #phase: 'starting' | 'rendezvous' | 'forming' | 'training' | 'ending' = 'starting';
  #waitingFor = '';
  #stopReason: string | undefined;
  #generation: Generation | undefined;
  #workerFailure: string | undefined;
  /** While the run trains. */
  #steering: Steering | undefined;
  #working: { readonly training: Training; readonly saver: Saver; readonly generation: Generation } | undefined;

  constructor(init: CoordinatorInit) {
    this.#init = init;
    const { config, transport, clock, log, token, start } = init;
    this.#summary = new RunSummary(start);
    init.room?.tellTo(log);
    const { listenHost: host, listenPort: port } = config.cluster;
    const routes = { 'GET /status': () => this.status(), ...steeringRoutes(() => this.#steering) };
    this.#server = new ControlServer({ transport, clock, log, host, port, token, routes });
  }

  /** @returns the URL for workers @throws PORT_IN_USE */
  listen(): Promise<string> {
    return this.#server.listen();
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
      this.#phase = 'rendezvous';
      const ready = await gatherWorkers({
        ...this.#init,
        server: this.#server,
        explain: (reason) => this.#explain(reason),
        stopReason: () => this.#stopReason,
        workerFailure: () => this.#workerFailure,
        signal,
      });
      if (ready.size > 0) await this.#train(ready, signal);
      await this.#finish();
      return this.#view();
    } catch (thrown) {
      const failure = toTrainerError(thrown);
      await this.#fail(failure);
      throw failure;
    } finally {
      await this.#server.close();
    }
  }

  /** JSON for GET /status and `exmix status`. */
  status(): object {
    const workers = this.#server.workers().map((worker) => {
      const rank = this.#generation?.members.indexOf(worker) ?? -1;
      const { workerId, host, pid, phase, step, stall } = worker;
      return { workerId, host, pid, phase, step, rank: rank < 0 ? null : rank, stall };
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

  #view(): RunSummaryView {
    return this.#summary.view(
      Math.max(0, ...(this.#generation?.members ?? []).map((worker) => worker.mostResidentBytes)),
    );
  }

  async #train(ready: ReadonlyMap<WorkerHandle, ReadyMessage>, signal: AbortSignal): Promise<void> {
    const { config, epoch, clock, log, journal, mixture, start, checkpointsFolder, publish } = this.#init;
    const members = [...ready.keys()];
    const { engineFingerprint } = ready.get(members[0]!)!;
    checkAlike(ready, mixture.hash, start.checkpoint?.paramDigest);
    this.#compareEngine(engineFingerprint);
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
    const predicted = predictRunOf(generation, ready, config);
    if (predicted !== undefined) {
      this.#summary.predict(predicted);
      log.info({ stepMs: Math.round(predicted.stepMs), workerBytes: predicted.workerBytes }, 'step predicted');
    }
    const dealer = new StepDealer({
      plan: planConfigOf(config, mixture, start.rateChanges),
      rateChanges: start.rateChanges,
      tasks: mixture.tasks,
      schedule: config.schedule,
      rowsPerStep: config.training.rowsPerStep,
      numLanes: config.training.numLanes,
      step: start.step,
      ...(start.cursor === undefined ? {} : { cursor: start.cursor }),
    });
    const { sizes, tasks } = mixture;
    const steering = new Steering({ config, sizes, tasks, dealer, journal, epoch, log });
    const saver = new Saver({
      checkpointsFolder,
      epoch,
      clock,
      log,
      publish: (written) => publish({ ...written, engineFingerprint }),
    });
    const training = new Training({
      config,
      generation,
      events: this.#server.events,
      dealer,
      journal,
      saver,
      taskNames: mixture.taskNames,
      record: createStepRecorder(this.#init.ledger, mixture.tasks),
      clock,
      log,
      savedStep: start.step,
      onCommit: (summary, tokensPerSecond) => {
        this.#summary.commit(summary, tokensPerSecond);
        steering.commit(summary, training.savePoint.cursor);
      },
      onPublish: (checkpoint) => this.#published(checkpoint),
      stopReason: () => this.#stopReason,
    });
    this.#phase = 'training';
    this.#explain('');
    this.#working = { training, saver, generation };
    this.#steering = steering;
    await training.run(signal).finally(() => (this.#steering = undefined));
  }

  /** Another engine goes on from the same numbers, but not with the same bits: that must not go unsaid. */
  #compareEngine(found: string): void {
    const expected = this.#init.start.checkpoint?.engineFingerprint;
    if (expected === undefined || expected === found) return;
    const reason =
      'the checkpoint was made by another engine: from here on the bits are not those of the run that did not stop';
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
    if (this.#working !== undefined) {
      const { stepTimeoutMs } = config.cluster;
      const saved = await salvage({ ...this.#working, failure, server: this.#server, clock, stepTimeoutMs });
      if (saved.checkpoint !== undefined) await this.#published(saved.checkpoint).catch(onUnwritten);
      log.warn({ reason: saved.reason, checkpoint: saved.checkpoint?.path ?? null }, 'survivors asked to save');
    }
    const { step } = this.#summary.view();
    await journal.append({ kind: 'run-interrupted', epoch, step, reason: `${code}: ${reason}` }).catch(onUnwritten);
    await this.#server.dismiss(reason);
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
    await this.#server.dismiss(this.#stopReason ?? 'the run is finished');
  }

  /** What the run waits for: logged when it changes. */
  #explain(reason: string): void {
    if (reason === this.#waitingFor) return;
    this.#waitingFor = reason;
    if (reason !== '') this.#init.log.info({ reason }, 'waiting');
  }
}
