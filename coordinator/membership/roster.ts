/**
 * The workers of an epoch, from their `join` on: which are ready, the step that each holds, and how often each has failed.
 * A held state counts only if it belongs to the run: the worker got it in this epoch, or in one that this epoch continues.
 */
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { Logger } from '../../shared/logger.ts';
import type {
  StepReport,
  FailedMessage,
  MessageOf,
  SavedMessage,
  ReadyMessage,
} from '../../shared/protocol/messages.ts';
import { differenceOf, chooseEngine, describeOtherEngine } from './check-alike.ts';
import type { ControlEvent, WorkerEventMessage } from './control-server.ts';
import type { Journal } from '../journal/journal.ts';
import { LinkTrials } from './link-trials.ts';
import { MAX_IN_A_ROW, StepStreak } from './step-streak.ts';
import type { WorkerHandle } from './worker-handle.ts';

export interface ReadyWorker {
  readonly worker: WorkerHandle;
  readonly facts: ReadyMessage;
  /** The step whose state it holds; null: none that counts. */
  readonly heldStep: number | null;
}

/** Whether a worker sees the files of the run (run-folder/folder-probe.ts). */
export interface RunFolderProbe {
  request(): NonNullable<MessageOf<'welcome'>['probe']>;
  /** Never rejects. */
  findFault(answer: ReadyMessage['probe']): Promise<string | undefined>;
  /** Called with a worker that takes part all the same, because it holds the state. */
  onFault(worker: WorkerHandle, fault: string): void;
}

export interface RosterInit {
  readonly config: RunConfig;
  readonly runId: string;
  readonly epoch: number;
  /** The first epoch whose states count: every epoch since then continued from the states of workers. */
  readonly heldSince: number;
  /** Ids of workers whose state does not count, from the journal. */
  readonly distrusted: Iterable<string>;
  /** Engine with which the run trained before this epoch; undefined where it has not. */
  readonly engineBefore: string | undefined;
  readonly journal: Pick<Journal, 'append'>;
  readonly mixture: Pick<PreparedMixture, 'folder' | 'hash'>;
  /** Undefined where coordinator and workers share no files: in tests. */
  readonly probe?: RunFolderProbe | undefined;
  readonly clock: Clock;
  readonly log: Logger;
  readonly committedStep: () => number;
  /** Called with a report of a generation that has ended. */
  readonly onLateReport: (worker: WorkerHandle, report: StepReport) => void;
  /** Called with the answer to a `save` of a generation that has ended. */
  readonly onLateSaved: (worker: WorkerHandle, message: SavedMessage | FailedMessage) => void;
}

export class Roster {
  readonly #init: RosterInit;
  readonly #preparing = new Set<WorkerHandle>();
  /** Those whose `ready` came. */
  readonly #proving = new WeakSet<WorkerHandle>();
  readonly #ready = new Map<WorkerHandle, ReadyWorker>();
  /** Ids of workers whose state does not count until it is replaced. */
  readonly #distrusted: Set<string>;
  readonly links: LinkTrials;
  readonly #strikes = new Strikes();
  #lastFailure = '';
  /** Of the members that train. */
  #engineFingerprint: string | undefined;

  constructor(init: RosterInit) {
    this.#init = init;
    this.#distrusted = new Set(init.distrusted);
    const { clock, log, epoch, config } = init;
    this.links = new LinkTrials({ clock, log, epoch, timeoutMs: config.cluster.connectTimeoutMs });
  }

  get preparing(): readonly WorkerHandle[] {
    return [...this.#preparing].filter((worker) => this.#takesPart(worker));
  }

  /** Without workers that are excluded, or left out and not yet proved. */
  get ready(): readonly ReadyWorker[] {
    return [...this.#ready.values()].filter(({ worker }) => this.#takesPart(worker));
  }

  /** Those that were left out, and whose pause is over: their links are to be tried before they take part. */
  get unproved(): readonly ReadyWorker[] {
    return [...this.#ready.values()].filter(
      ({ worker }) => this.#isAdmitted(worker) && this.links.standingOf(worker) === 'unproved',
    );
  }

  /** The error of the last worker that could not get ready, or was refused; '' where there is none. */
  get lastFailure(): string {
    return this.#lastFailure;
  }

  /** Why a worker is excluded; undefined where it is admitted. */
  excludedBecause(workerId: string): string | undefined {
    return this.#strikes.reason(workerId);
  }

  /** Ready workers outside the generation. */
  waiting(members: readonly WorkerHandle[]): ReadyWorker[] {
    const areMembers = new Set(members);
    return this.ready.filter(({ worker }) => !areMembers.has(worker) && !worker.isDraining);
  }

  /** Lets workers go that were told to leave. @param needed those that the run still needs */
  releaseDraining(needed: readonly WorkerHandle[]): void {
    for (const worker of this.#ready.keys())
      if (worker.isDraining && !needed.includes(worker))
        worker.dismiss('interrupted', `${worker.drainReason}: the run does not need its state any more`);
  }

  of(worker: WorkerHandle): ReadyWorker | undefined {
    return this.#ready.get(worker);
  }

  /** Handles an event that no generation needs. */
  handle(event: ControlEvent): void {
    const { worker } = event;
    switch (event.kind) {
      case 'joined':
        this.#admit(worker);
        break;
      case 'lost':
        this.#remove(worker, event.error.message);
        break;
      case 'message':
        this.#receive(worker, event.message);
    }
  }

  /** Sets the step whose state a worker holds. The state of a distrusted worker does not count. */
  setHeldStep(worker: WorkerHandle, step: number | null): void {
    const known = this.#ready.get(worker);
    if (known === undefined) return;
    this.#ready.set(worker, { ...known, heldStep: this.#distrusted.has(worker.workerId) ? null : step });
  }

  /** A new generation has given the worker the state of this step, the same on all its members. */
  trustNewState(worker: WorkerHandle, step: number): void {
    this.#distrusted.delete(worker.workerId);
    this.links.formed(worker);
    this.setHeldStep(worker, step);
  }

  /**
   * The states of these workers differ from the others', or from each other: they do not count until they are replaced.
   * @param goodUntil the last step of their generation without a wrong gradient of theirs; left out where they put none into any step
   * @throws DISK_FULL, PATH_UNUSABLE
   */
  async distrust(workerIds: readonly string[], goodUntil?: number): Promise<void> {
    for (const workerId of workerIds) this.#distrusted.add(workerId);
    for (const worker of this.#ready.keys()) if (workerIds.includes(worker.workerId)) this.setHeldStep(worker, null);
    const { journal, epoch } = this.#init;
    if (workerIds.length === 0) return;
    const spoilt = goodUntil === undefined ? {} : { goodUntil };
    await journal.append({ kind: 'states-distrusted', epoch, workerIds: [...workerIds], ...spoilt });
  }

  /** Tries the links of workers whose pause is over, beside this generation. Call it while it trains and has room. */
  tryLinks(members: readonly WorkerHandle[]): void {
    const candidates = this.unproved.filter(({ worker }) => !worker.isDraining);
    this.links.poll(
      candidates.map(({ worker }) => worker),
      members,
    );
  }

  /** A member failed, or was lost, in this step. MAX_IN_A_ROW failures in one step exclude it. */
  strike(worker: WorkerHandle, step: number, reason: string): void {
    const excluded = this.#strikes.add(worker.workerId, step, reason);
    if (excluded === undefined) return;
    this.#init.log.error({ workerId: worker.workerId, step, reason: excluded }, 'worker excluded');
    worker.drop('JOIN_REFUSED', excluded);
  }

  #takesPart(worker: WorkerHandle): boolean {
    return this.#isAdmitted(worker) && this.links.standingOf(worker) === 'good';
  }

  #isAdmitted({ workerId, isGone }: WorkerHandle): boolean {
    return !isGone && this.#strikes.reason(workerId) === undefined; // its `lost` event may still wait
  }

  #receive(worker: WorkerHandle, message: WorkerEventMessage): void {
    switch (message.kind) {
      case 'ready':
        this.#receiveReady(worker, message);
        break;
      case 'failed':
        this.#receiveFailure(worker, message);
        break;
      case 'report':
        this.#init.onLateReport(worker, message);
        break;
      case 'saved':
        this.#init.onLateSaved(worker, message);
        break;
      case 'links-probed':
        this.links.receive(worker, message);
        break;
      case 'formed':
      case 'aborted':
      case 'not-finite':
        break; // it answers a generation that is over
      case 'evaluated':
        break; // of a generation that is over
      case 'evaluation-ready':
        worker.drop('MESSAGE_INVALID', 'expected ready, got evaluation-ready: this is a run');
        break;
      case 'drain':
        break; // its handle has the reason
    }
  }

  #admit(worker: WorkerHandle): void {
    const { config, runId, epoch, mixture, log, committedStep } = this.#init;
    const { workerId, host, pid } = worker;
    const excluded = this.#strikes.reason(workerId);
    if (excluded !== undefined) {
      worker.drop('JOIN_REFUSED', excluded);
      return;
    }
    log.info({ workerId, host, pid }, 'worker joined');
    this.#preparing.add(worker);
    const { folder: preparedFolder, hash: mixtureHash } = mixture;
    const step = committedStep();
    const probe = this.#init.probe === undefined ? {} : { probe: this.#init.probe.request() };
    worker.send({ kind: 'welcome', epoch, runId, config, preparedFolder, mixtureHash, committedStep: step, ...probe });
  }

  #receiveReady(worker: WorkerHandle, facts: ReadyMessage): void {
    if (!this.#preparing.has(worker) || this.#proving.has(worker)) return;
    this.#proving.add(worker);
    const { probe } = this.#init;
    if (probe === undefined) this.#addReady(worker, facts, undefined);
    else void probe.findFault(facts.probe).then((fault) => this.#addReady(worker, facts, fault));
  }

  /** @param fault why the worker does not see the files of the run */
  #addReady(worker: WorkerHandle, facts: ReadyMessage, fault: string | undefined): void {
    if (!this.#preparing.delete(worker)) return; // it was lost meanwhile
    const { runId, epoch, heldSince, log, probe } = this.#init;
    const { held, engine, engineFingerprint, engineNotes, numParameters } = facts;
    const counts =
      held?.runId === runId && held.epoch >= heldSince && held.epoch <= epoch && !this.#distrusted.has(worker.workerId);
    const heldStep = counts ? held.step : null;
    const refused = heldStep === null ? fault : undefined;
    if (refused !== undefined) {
      log.error({ workerId: worker.workerId, reason: refused }, 'worker refused');
      this.#lastFailure = `; ${worker.toString()} was refused: ${refused}`;
      worker.drop('JOIN_REFUSED', refused);
      return;
    }
    if (this.#refuseIfOdd(worker, facts)) return;
    if (fault !== undefined) probe?.onFault(worker, fault);
    const others = this.ready;
    this.#ready.set(worker, { worker, facts, heldStep });
    const { workerId } = worker;
    log.info({ workerId, engine, engineFingerprint, numParameters, heldStep }, 'worker ready');
    for (const reason of engineNotes ?? [])
      if (!others.some((other) => other.facts.engineNotes?.includes(reason) === true))
        log.warn({ workerId, reason }, 'engine not as it could be');
  }

  /** From now on workers with another engine are refused. */
  setEngine(fingerprint: string): void {
    this.#engineFingerprint = fingerprint;
  }

  /**
   * Refuses ready workers whose engine is not that of the next generation. Call it before one is formed.
   * @param isHolder whether a held step is the committed state, or a later one @returns whether one was refused
   */
  refuseOdd(isHolder: (heldStep: number) => boolean): boolean {
    const ready = this.ready;
    const votes = ready.map(({ worker: { workerId }, facts: { engineFingerprint }, heldStep }) => ({
      workerId,
      engineFingerprint,
      isHolder: heldStep !== null && isHolder(heldStep),
    }));
    const engine = this.#engineFingerprint ?? chooseEngine(votes, this.#init.engineBefore);
    const odd = ready.filter(({ worker, facts }) => this.#refuseIfOdd(worker, facts, engine));
    for (const { worker } of odd) this.#ready.delete(worker);
    return odd.length > 0;
  }

  /** @param engineFingerprint of the run; undefined where no worker has trained */
  #refuseIfOdd(worker: WorkerHandle, facts: ReadyMessage, engineFingerprint = this.#engineFingerprint): boolean {
    const { hash: mixtureHash } = this.#init.mixture;
    const expected = { engineFingerprint: engineFingerprint ?? facts.engineFingerprint, mixtureHash };
    const difference = differenceOf(worker, facts, expected);
    if (difference === undefined) return false;
    this.#init.log.error({ workerId: worker.workerId, reason: difference.message }, 'worker refused');
    this.#lastFailure = `; refused ${difference.message}`;
    const reason =
      facts.mixtureHash === mixtureHash
        ? describeOtherEngine(facts.engineFingerprint, expected.engineFingerprint)
        : `other mixture than the run: ${facts.mixtureHash.slice(0, 12)} in place of ${mixtureHash.slice(0, 12)}`;
    worker.drop('JOIN_REFUSED', reason);
    return true;
  }

  /** A failure outside a generation: the worker could not get ready, or could not write its shards. */
  #receiveFailure(worker: WorkerHandle, failed: FailedMessage): void {
    const { epoch, generation, error } = failed;
    const isGettingReady = this.#preparing.has(worker) && epoch === this.#init.epoch && generation === 0;
    if (!isGettingReady) {
      this.#init.onLateSaved(worker, failed);
      return;
    }
    const { code, message } = error;
    this.#init.log.warn({ workerId: worker.workerId, code, reason: message }, 'worker could not get ready');
    this.#lastFailure = `; ${worker.toString()} said ${code}: ${message}`;
    worker.drop('WORKER_LOST', 'it could not get ready');
  }

  #remove(worker: WorkerHandle, reason: string): void {
    const wasHere = this.#preparing.delete(worker) || this.#ready.delete(worker);
    const level = worker.isDismissed ? 'info' : 'warn';
    if (wasHere) this.#init.log[level]({ workerId: worker.workerId, reason }, 'worker left');
  }
}

/** Excludes workers that fail again and again in one step. Pure, except for its counts. */
export class Strikes {
  readonly #records = new Map<
    string,
    { readonly streak: StepStreak; readonly step: number; count: number; reason: string }
  >();

  /** Counts a failure in this step. @returns why the worker is excluded, once it is */
  add(workerId: string, step: number, reason: string): string | undefined {
    const streak = this.#records.get(workerId)?.streak ?? new StepStreak();
    this.#records.set(workerId, { streak, step, count: streak.add(step), reason });
    return this.reason(workerId);
  }

  /** Why a worker is excluded; undefined where it is not. */
  reason(workerId: string): string | undefined {
    const record = this.#records.get(workerId);
    if (record === undefined || record.count < MAX_IN_A_ROW) return undefined;
    return `${workerId} has failed ${record.count} times in step ${record.step}, last: ${record.reason}`;
  }
}
