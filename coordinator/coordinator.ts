/**
 * The coordinator of a run, for one epoch: gathers workers, forms a generation, trains, and when the generation is over forms the next
 * one from who is left and who has come (docs/decisions/0013). Control plane only: no tensor comes here. The decisions are in other files;
 * this one puts them in order.
 */
import { relative } from 'node:path';
import { toTrainerError, type TrainerError } from '../shared/errors.ts';
import type { Transport } from '../shared/transport/transport.ts';
import { checkAlike, tellOtherEngine } from './membership/check-alike.ts';
import type { PublishedCheckpoint } from './checkpoint/publish.ts';
import { Consequences } from './generation/penalties.ts';
import { ControlServer } from './membership/control-server.ts';
import { endGeneration } from './generation/end-generation.ts';
import { planRewind, type EpochEnding, type Rewind, failRun, finishRun } from './end-run.ts';
import { createEpochParts, type EpochInit, type EpochParts } from './epoch-parts.ts';
import { formGeneration } from './generation/form-generation.ts';
import type { Generation, GenerationEnding } from './membership/generation.ts';
import { gatherWorkers } from './membership/gather-workers.ts';
import { LocalProcesses } from './membership/local-processes.ts';
import type { RoomOnDisk } from './run-folder/room-on-disk.ts';
import { predictRunOf, RunSummary, type RunSummaryView } from './run-summary.ts';
import type { ReadyWorker } from './membership/roster.ts';
import { describeWorkers } from './membership/worker-handle.ts';
import { steeringRoutes } from './steering/steering-requests.ts';
import { Training } from './generation/training.ts';

export interface CoordinatorInit extends EpochInit {
  /** Folder of the run, for paths in the journal. */
  readonly runFolder: string;
  /** A full disk pauses the run; left out: it ends it. */
  readonly room?: RoomOnDisk;
  readonly token: string;
  readonly transport: Transport;
  /** A worker was dropped because it did not answer: who runs its process is to end it. */
  readonly onHung?: ((workerId: string) => void) | undefined;
}

export class Coordinator {
  readonly localProcesses = new LocalProcesses();
  readonly #init: CoordinatorInit;
  readonly #server: ControlServer;
  readonly #summary: RunSummary;
  readonly #parts: EpochParts;
  readonly #consequences: Consequences;
  #phase: 'starting' | 'rendezvous' | 'forming' | 'training' | 'ending' = 'starting';
  #waitingFor = '';
  #stopReason: string | undefined;
  /** The last one; it may be over. */
  #generation: Generation | undefined;
  /** Of that generation. */
  #training: Training | undefined;
  /** Members differed, and no generation has been formed since then. */
  #divergence: TrainerError | undefined;
  #engineFingerprint = '';
  /** What can be loaded in place of a state that nobody holds. */
  #loadable: { readonly step: number; readonly path?: string; readonly paramDigest?: string };

  /** @throws CONFIG_INVALID, MIXTURE_MISMATCH for a plan that cannot be gone on with */
  constructor(init: CoordinatorInit) {
    this.#init = init;
    const { start, room, log } = init;
    this.#summary = new RunSummary(start);
    room?.tellTo(log);
    this.#server = this.#createServer();
    this.#loadable = start.checkpoint ?? { step: 0 };
    this.#parts = createEpochParts(init, {
      engineFingerprint: () => this.#engineFingerprint,
      onSkip: (step) => this.#summary.skip(step),
      onCommit: (summary, tokensPerSecond) => this.#summary.commit(summary, tokensPerSecond),
    });
    this.#consequences = new Consequences(this.#parts);
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

  /** Committed steps that a worker took part in. */
  commitsOf(workerId: string): number {
    return this.#parts.committer.commitsOf(workerId);
  }

  /** Whether a worker is not wanted any more: the run ends, or it was excluded. */
  isOverFor(workerId: string): boolean {
    return this.#phase === 'ending' || this.#parts.roster.excludedBecause(workerId) !== undefined;
  }

  /**
   * From rendezvous to the last checkpoint, through as many generations as it takes.
   * @throws the failure that ended the run, once what could be saved is saved; RUN_LOCKED of the signal at once
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
      mayComeBack = toTrainerError(signal.reason).code === 'RUN_LOCKED'; // to the coordinator that has taken over
      const failure = toTrainerError(mayComeBack ? signal.reason : thrown);
      await this.#fail(failure);
      throw failure;
    } finally {
      await this.#server.close(mayComeBack);
    }
  }

  /** JSON for GET /status and `exmix status`. */
  status(): object {
    const { name, training } = this.#init.config;
    const ids = { epoch: this.#init.epoch, generation: this.#generation?.generation ?? 0 };
    return {
      name,
      phase: this.#phase,
      waitingFor: this.#init.room?.waitingFor || this.#waitingFor,
      steps: training.steps,
      ...ids,
      workers: describeWorkers(this.#server.workers(), this.#generation?.members ?? []),
      slow: this.#training?.slow ?? [],
      ...this.#view(),
    };
  }

  #createServer(): ControlServer {
    const { config, transport, clock, log, token, onHung } = this.#init;
    const { listenHost: host, heartbeatTimeoutMs: silenceMs, maxWorkers = config.training.numLanes } = config.cluster;
    const isSteered = (): boolean => this.#phase === 'training' || this.#phase === 'forming';
    const routes = {
      'GET /status': () => this.status(),
      ...steeringRoutes(() => (isSteered() && this.#generation !== undefined ? this.#parts.steering : undefined)),
    };
    return new ControlServer({ transport, clock, log, host, token, maxWorkers, silenceMs, routes, onHung });
  }

  #view(): RunSummaryView {
    return this.#summary.view(
      Math.max(0, ...(this.#generation?.members ?? []).map((worker) => worker.mostResidentBytes)),
    );
  }

  /** @returns why the run must go on from a checkpoint; undefined when it is over */
  async #trainGenerations(signal: AbortSignal): Promise<Rewind | undefined> {
    const { roster, committer, settling } = this.#parts;
    const { before } = this.#init;
    for (let numFormed = 0; ; numFormed++) {
      this.#phase = 'rendezvous';
      const gathered = await gatherWorkers({
        ...this.#init,
        ...{ roster, signal },
        server: this.#server,
        before: this.#generation?.members.map(({ workerId }) => workerId) ?? before?.members,
        awaitsThem: numFormed === 0 && before !== undefined,
        hasEnded: (workerId) => this.#hasEnded(workerId),
        isHolder: (heldStep) => heldStep > committer.step || committer.isState(heldStep),
        needsHolder: this.#needsHolder(),
        explain: (reason) => this.#explain(reason),
        stopReason: () => this.#stopReason,
        workerFailure: () => this.localProcesses.failure,
      });
      if (gathered.kind === 'stopped') return undefined;
      if (gathered.kind === 'rewind') return this.#rewind(gathered.reason);
      await settling.settleFurthest();
      const members = gathered.members.map(({ worker }) => roster.of(worker)!);
      if (this.#needsHolder() && !members.some(({ heldStep }) => committer.isState(heldStep)))
        return this.#rewind(`nobody holds the state of step ${committer.step}`);
      const ending = await this.#trainGeneration(members, numFormed + 1, signal);
      if (ending.kind === 'done') return undefined;
      await this.#endGeneration(ending, signal);
    }
  }

  /** The process of a member is known to be gone. */
  #hasEnded(workerId: string): boolean {
    const member = this.#generation?.members.find((worker) => worker.workerId === workerId);
    return member !== undefined && this.localProcesses.hasEnded(member);
  }

  #rewind(reason: string): Rewind {
    const held = this.#parts.roster.ready.map(({ heldStep }) => heldStep);
    return planRewind(reason, { held, loadableStep: this.#loadable.step, divergence: this.#divergence });
  }

  /** The state of the committed step is in no checkpoint. */
  #needsHolder(): boolean {
    return this.#parts.committer.step !== this.#loadable.step;
  }

  async #trainGeneration(
    members: readonly ReadyWorker[],
    number: number,
    signal: AbortSignal,
  ): Promise<GenerationEnding> {
    const { config, mixture, epoch, journal, clock, log } = this.#init;
    checkAlike(members, mixture.hash);
    const { engineFingerprint } = members[0]!.facts;
    this.#parts.roster.setEngine(engineFingerprint);
    tellOtherEngine(log, this.#engineFingerprint || this.#init.start.checkpoint?.engineFingerprint, engineFingerprint);
    this.#engineFingerprint = engineFingerprint;
    this.#phase = 'forming';
    const { path, paramDigest } = this.#loadable;
    const ids = members.map(({ worker }) => worker.workerId);
    const formed = await formGeneration({
      ...{ members, epoch, config, journal, clock, log, signal },
      generation: number,
      step: this.#parts.committer.step,
      isState: (heldStep) => this.#parts.committer.isState(heldStep),
      checkpoint: path === undefined ? undefined : { path, paramDigest: paramDigest! },
      roster: this.#parts.roster,
      server: this.#server,
      speeds: config.cluster.rebalance ? this.#parts.speeds.of(ids) : undefined,
      explain: (reason) => this.#explain(reason),
    });
    const { generation } = formed;
    this.#generation = generation;
    if (formed.kind === 'broken') return formed;
    this.#divergence = undefined;
    this.#summary.formed(members.length);
    const predicted = predictRunOf(members, generation.runs, config);
    if (predicted !== undefined) {
      this.#summary.predict(predicted);
      log.info({ stepMs: Math.round(predicted.stepMs), workerBytes: predicted.workerBytes }, 'step predicted');
    }
    this.#phase = 'training';
    this.#explain('');
    this.#training = new Training({
      ...{ ...this.#parts, config, generation, clock, log },
      taskNames: mixture.taskNames,
      server: this.#server,
      onPublish: (checkpoint) => this.#published(checkpoint),
      stopReason: () => this.#stopReason,
    });
    return this.#training.run(signal);
  }

  async #endGeneration(ending: Exclude<GenerationEnding, { kind: 'done' }>, signal: AbortSignal): Promise<void> {
    const { log, clock } = this.#init;
    const { roster, settling, saver, committer } = this.#parts;
    const generation = this.#generation!;
    const { step } = committer;
    if (ending.kind === 'boundary') {
      for (const worker of generation.members) roster.hold(worker, step);
      log.info({ step, reason: ending.reason }, 'generation changes');
      return;
    }
    const { error, outliers } = ending;
    if (outliers !== undefined) this.#divergence = error;
    log.warn({ step, code: error.code, reason: error.message }, 'generation ended');
    await endGeneration({ error, generation, server: this.#server, roster, settling, saver, clock, signal });
    this.#consequences.draw(ending, generation, step);
  }

  async #fail(failure: TrainerError): Promise<void> {
    this.#phase = 'ending';
    const { room } = this.#init;
    room?.stopWaiting(); // a run that has failed ends, also with a full disk
    await failRun({
      ...{ ...this.#init, ...this.#parts, server: this.#server, failure, generation: this.#generation },
      onPublish: (checkpoint) => this.#published(checkpoint),
    });
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
    this.#phase = 'ending';
    const view = this.#summary.view();
    await finishRun({ ...this.#init, ...this.#parts, server: this.#server, view, stopReason: this.#stopReason });
  }

  /** What the run waits for: logged when it changes. */
  #explain(reason: string): void {
    if (reason === this.#waitingFor) return;
    this.#waitingFor = reason;
    if (reason !== '') this.#init.log.info({ reason }, 'waiting');
  }
}
