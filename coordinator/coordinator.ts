/**
 * One epoch of the coordinator: gathers workers, forms a generation, trains it, and when it ends forms the next one from the survivors and
 * newcomers (docs/decisions/0013). Control plane only: no tensor comes here. The decisions are made in other files; this one orders them.
 */
import { toTrainerError, type TrainerError } from '../shared/errors.ts';
import type { Transport } from '../shared/transport/transport.ts';
import {
  awaitWorkers,
  failRun,
  finishRun,
  isFinished,
  planRewind,
  type EndOfRun,
  type EpochEnding,
  type Rewind,
} from './end-run.ts';
import { createEpochParts, type EpochInit, type EpochParts } from './epoch-parts.ts';
import { endGeneration } from './generation/end-generation.ts';
import { formGeneration } from './generation/form-generation.ts';
import { Penalties } from './generation/penalties.ts';
import { Training } from './generation/training.ts';
import { checkAlike, logOtherEngine } from './membership/check-alike.ts';
import { ControlServer } from './membership/control-server.ts';
import { gatherWorkers, type Gathered } from './membership/gather-workers.ts';
import type { Generation, GenerationEnding } from './membership/generation.ts';
import type { ReadyWorker, Roster } from './membership/roster.ts';
import { RunPhase } from './membership/run-phase.ts';
import { NO_LOCAL_WORKERS, type WorkerHost, type WorkerProgress } from './membership/worker-host.ts';
import { describeWorkers } from './membership/worker-handle.ts';
import { predictRunOf, type RunSummaryView } from './run-summary.ts';
import { steeringRoutes } from './steering/steering-requests.ts';

export interface CoordinatorInit extends EpochInit {
  readonly transport: Transport;
  readonly token: string;
  readonly workerHost: WorkerHost;
}

export class Coordinator implements WorkerProgress {
  readonly #init: CoordinatorInit;
  readonly #phase: RunPhase;
  readonly #parts: EpochParts;
  readonly #membership: { readonly server: ControlServer; readonly roster: Roster };
  readonly #penalties: Penalties;
  /** The last one; it may be over. */
  #generation: Generation | undefined;
  /** Of that generation. */
  #training: Training | undefined;
  /** Members differed, and no generation was formed since. */
  #divergence: TrainerError | undefined;
  /** Of the generation before; of the checkpoint where none was formed. */
  #engineFingerprint: string | undefined;

  /** @throws CONFIG_INVALID, MIXTURE_MISMATCH where the plan cannot be resumed */
  constructor(init: CoordinatorInit) {
    this.#init = init;
    const { opening, stores, runtime } = init;
    stores.diskSpace?.logTo(runtime.log);
    this.#phase = new RunPhase(runtime.log);
    this.#parts = createEpochParts(init);
    this.#membership = { server: this.#createServer(), roster: this.#parts.roster };
    this.#penalties = new Penalties(this.#parts.roster, this.#parts.steps.committer);
    this.#engineFingerprint = opening.start.checkpoint?.engineFingerprint;
  }

  /** @param port 0 takes a free one @returns the URL for workers @throws PORT_IN_USE */
  listen(port: number): Promise<string> {
    return this.#membership.server.listen(port);
  }

  /** Finishes the steps that are dealt, saves, and ends. Idempotent. */
  requestStop(reason: string): void {
    this.#phase.requestStop(reason);
  }

  numCommitted(workerId: string): number {
    return this.#parts.steps.committer.commitsOf(workerId);
  }

  /** The last step was committed and saved before: nothing is left to train. */
  get isFinished(): boolean {
    return isFinished({ ...this.progress, ...this.#stoppedEarly() }, this.#init.config.training.steps);
  }

  /** The last committed step, and that of the newest checkpoint (0: none). */
  get progress(): { readonly step: number; readonly savedStep: number } {
    const { steps, saver } = this.#parts;
    return { step: steps.committer.step, savedStep: saver.savedStep };
  }

  isDismissed(workerId: string): boolean {
    const isEnding = this.#phase.name === 'ending' || this.#phase.stopReason !== undefined;
    return isEnding || this.#parts.roster.excludedBecause(workerId) !== undefined;
  }

  /**
   * From the rendezvous to the last checkpoint, through as many generations as it takes.
   * @throws the failure that ended the run, after everything that could be saved was saved; the signal's RUN_LOCKED at once
   */
  async run(signal: AbortSignal): Promise<EpochEnding> {
    let mayComeBack = false;
    try {
      const rewind = await this.#trainGenerations(signal);
      if (rewind !== undefined) {
        mayComeBack = true;
        return rewind;
      }
      this.#phase.name = 'ending';
      const summary = this.#summarize();
      await finishRun(this.#endOfRun(), this.#phase.stopReason, summary);
      return { kind: 'ended', summary };
    } catch (thrown) {
      mayComeBack = toTrainerError(signal.reason).code === 'RUN_LOCKED'; // to the coordinator that has taken over
      const error = toTrainerError(mayComeBack ? signal.reason : thrown);
      this.#phase.name = 'ending';
      this.#init.stores.diskSpace?.stopWaiting(); // a failed run ends even if the disk stays full
      const { stepTimeoutMs: saveTimeoutMs } = this.#init.config.cluster;
      await failRun(this.#endOfRun(), { error, generation: this.#generation, saveTimeoutMs });
      throw error;
    } finally {
      await this.#membership.server.close(mayComeBack);
    }
  }

  /** JSON for GET /status and `exmix status`. */
  status(): object {
    const { config, opening, stores } = this.#init;
    return {
      name: config.name,
      phase: this.#phase.name,
      waitingFor: stores.diskSpace?.waitingFor || this.#phase.waitingFor,
      steps: config.training.steps,
      epoch: opening.epoch,
      generation: this.#generation?.generation ?? 0,
      workers: describeWorkers(this.#membership.server.workers(), this.#generation?.members ?? []),
      slow: this.#training?.slow ?? [],
      ...this.#summarize(),
    };
  }

  #createServer(): ControlServer {
    const { config, mixture, opening, transport, token, workerHost, runtime } = this.#init;
    const { clock, log } = runtime;
    const { listenHost: host, heartbeatTimeoutMs: silenceMs, maxWorkers = config.training.numLanes } = config.cluster;
    const isSteerable = (): boolean =>
      this.#generation !== undefined && (this.#phase.name === 'training' || this.#phase.name === 'forming');
    const routes = {
      'GET /status': () => this.status(),
      ...steeringRoutes(() => (isSteerable() ? this.#parts.steering : undefined)),
    };
    const onHung = (workerId: string): void => workerHost.kill(workerId);
    const size = { numLanes: config.training.numLanes, numTasks: mixture.taskNames.length };
    return new ControlServer({
      ...{ transport, clock, log, host, token, maxWorkers, silenceMs, routes, onHung },
      ...{ epoch: opening.epoch, size },
    });
  }

  #summarize(): RunSummaryView {
    const { steps, saver, validator, summary } = this.#parts;
    const members = this.#generation?.members ?? [];
    const workerBytes = Math.max(0, ...members.map((worker) => worker.mostResidentBytes));
    const validation = validator.view();
    return {
      ...summary.view(steps.committer.step, saver.newest, workerBytes),
      ...this.#stoppedEarly(),
      ...(Object.keys(validation).length === 0 ? {} : { validation }),
    };
  }

  #stoppedEarly(): Pick<RunSummaryView, 'stoppedEarly'> {
    const { steps, validator } = this.#parts;
    const stoppedEarly = validator.earlyStop(steps.committer.step);
    return stoppedEarly === undefined ? {} : { stoppedEarly };
  }

  /** @returns why the run must be opened again at an earlier step; undefined when it is over */
  async #trainGenerations(signal: AbortSignal): Promise<Rewind | undefined> {
    const { roster, steps, validator } = this.#parts;
    const { committer, settlement } = steps;
    const isOver = (): boolean => this.isFinished; // it changes while workers are awaited
    if (isOver()) {
      const { config, workerHost } = this.#init;
      const { minWorkers, startWorkers = minWorkers } = config.cluster;
      // Workers of this host were not started; those of other hosts may dial already.
      if (workerHost === NO_LOCAL_WORKERS) await awaitWorkers(this.#endOfRun(), startWorkers, signal);
      return undefined;
    }
    for (let number = 1; ; number++) {
      this.#phase.name = 'rendezvous';
      const gathered = await this.#gather(number === 1, signal).catch((thrown: unknown) => {
        // Every step is saved, and the workers for the last validation do not come back: the run has finished all the same.
        if (number === 1 || !isOver() || signal.aborted) throw thrown;
        validator.abandon(committer.step, toTrainerError(thrown).message);
        return { kind: 'stopped' } as const;
      });
      if (gathered.kind === 'stopped') {
        if (isOver()) validator.abandon(committer.step, this.#phase.stopReason ?? 'no worker is left');
        return undefined;
      }
      if (gathered.kind === 'rewind') return this.#planRewind(gathered.reason);
      await settlement.settleFurthest();
      const members = gathered.members.map(({ worker }) => roster.of(worker)!);
      if (this.#needsHolder() && !members.some(({ heldStep }) => committer.isState(heldStep)))
        return this.#phase.stopReason !== undefined
          ? undefined
          : this.#planRewind(`nobody holds the state of step ${committer.step}`);
      const ending = await this.#trainGeneration(members, number, signal);
      if (ending.kind === 'done') return undefined;
      await this.#endGeneration(ending, signal);
    }
  }

  #gather(isFirst: boolean, signal: AbortSignal): Promise<Gathered> {
    const { config, opening, workerHost, runtime } = this.#init;
    const { committer } = this.#parts.steps;
    const isHolder = (heldStep: number): boolean => heldStep > committer.step || committer.isState(heldStep);
    const state = { isHolder, needsHolder: this.#needsHolder() };
    const pids = new Map(this.#generation?.members.map(({ workerId, pid }) => [workerId, pid]));
    const ids = this.#generation === undefined ? opening.before?.members : [...pids.keys()];
    const hasEnded = (workerId: string): boolean => {
      const pid = pids.get(workerId);
      return pid !== undefined && workerHost.hasEnded(workerId, pid);
    };
    const last = ids === undefined ? undefined : { ids, mustReturn: isFirst && opening.before !== undefined, hasEnded };
    const { clock } = runtime;
    return gatherWorkers(
      { config, membership: this.#membership, last, state, workerHost, phase: this.#phase, clock },
      signal,
    );
  }

  /** Whether no checkpoint has the committed state: then only a worker that holds it can continue the run. */
  #needsHolder(): boolean {
    const { steps, saver } = this.#parts;
    return steps.committer.step !== saver.savedStep;
  }

  #planRewind(reason: string): Rewind {
    const { roster, saver } = this.#parts;
    const held = [...roster.ready, ...roster.unproved].map(({ heldStep }) => heldStep);
    return planRewind(reason, { held, loadableStep: saver.savedStep, divergence: this.#divergence });
  }

  async #trainGeneration(
    members: readonly ReadyWorker[],
    number: number,
    signal: AbortSignal,
  ): Promise<GenerationEnding> {
    const { config, mixture, opening, stores, runtime } = this.#init;
    const { steps, saver, validator, speeds, summary } = this.#parts;
    const { committer } = steps;
    checkAlike(members, mixture.hash);
    this.#setEngine(members[0]!.facts.engineFingerprint);
    this.#phase.name = 'forming';
    const ids = members.map(({ worker }) => worker.workerId);
    const plan = {
      epoch: opening.epoch,
      generation: number,
      members,
      step: committer.step,
      isState: (heldStep: number) => committer.isState(heldStep),
      speeds: config.cluster.rebalance ? speeds.of(ids) : undefined,
      checkpoint: saver.newest,
    };
    const { journal } = stores;
    const phase = this.#phase;
    const membership = this.#membership;
    const formed = await formGeneration({ config, plan, membership, journal, phase, runtime }, signal);
    const { generation } = formed;
    this.#generation = generation;
    if (formed.kind === 'broken') return formed;

    this.#divergence = undefined;
    const predicted = predictRunOf(members, generation.runs, config);
    summary.onFormed(members.length, predicted);
    if (predicted !== undefined) {
      const { stepMs, workerBytes } = predicted;
      runtime.log.info({ stepMs: Math.round(stepMs), workerBytes }, 'step predicted');
    }
    phase.name = 'training';
    phase.waitFor('');
    const { taskNames } = mixture;
    const parts = { steps, saver, validator, speeds };
    const training = { config, taskNames, generation, membership, ...parts, phase, runtime };
    this.#training = new Training(training);
    return this.#training.run(signal);
  }

  #setEngine(fingerprint: string): void {
    logOtherEngine(this.#init.runtime.log, this.#engineFingerprint, fingerprint);
    this.#engineFingerprint = fingerprint;
    this.#parts.roster.setEngine(fingerprint);
  }

  async #endGeneration(ending: Exclude<GenerationEnding, { kind: 'done' }>, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#init.runtime;
    const { server, roster } = this.#membership;
    const { steps, saver } = this.#parts;
    const generation = this.#generation!;
    const { step } = steps.committer;
    if (ending.kind === 'boundary') {
      for (const worker of generation.members) roster.setHeldStep(worker, step);
      log.info({ step, reason: ending.reason }, 'generation changes');
      return;
    }
    const { error, cause } = ending;
    if (cause.kind === 'outliers' || cause.kind === 'undecided') this.#divergence = error;
    log.warn({ step, code: error.code, reason: error.message }, 'generation ended');
    const { settlement } = steps;
    await endGeneration({ error, generation, server, roster, settlement, saver, clock, signal });
    this.#penalties.apply(ending, generation, step);
  }

  #endOfRun(): EndOfRun {
    const { config, opening, stores, runtime } = this.#init;
    const { steps, saver } = this.#parts;
    const { epoch } = opening;
    const { steps: lastStep } = config.training;
    return { epoch, lastStep, journal: stores.journal, membership: this.#membership, steps, saver, runtime };
  }
}
