/**
 * Who is there: every worker of this epoch from its `join` on, whether it is ready, which state it holds, and how often it has failed.
 * A state counts only where it is known to be the run's: got in this epoch, or in one that this one goes on from.
 */
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { Logger } from '../../shared/logger.ts';
import type { StepReport, FailedMessage, SavedMessage, ReadyMessage } from '../../shared/protocol/messages.ts';
import { differenceOf } from './check-alike.ts';
import type { ControlEvent, WorkerEventMessage } from './control-server.ts';
import type { Journal } from '../journal/journal.ts';
import type { WorkerHandle } from './worker-handle.ts';

/** Who is left out comes back after so long, ms. */
const LEFT_OUT_MS = 30_000;

export interface ReadyWorker {
  readonly worker: WorkerHandle;
  readonly facts: ReadyMessage;
  /** Updates behind the state it holds; null: it holds none that counts. */
  readonly heldStep: number | null;
}

export interface RosterInit {
  readonly config: RunConfig;
  readonly runId: string;
  readonly epoch: number;
  /** The first epoch whose states count: all since then have gone on from what workers held. */
  readonly heldSince: number;
  /** Workers whose state does not count from the start, by the journal. */
  readonly distrusted: Iterable<string>;
  readonly journal: Pick<Journal, 'append'>;
  readonly mixture: Pick<PreparedMixture, 'folder' | 'hash'>;
  readonly clock: Clock;
  readonly log: Logger;
  readonly committedStep: () => number;
  /** A report of a generation that is over. */
  readonly onLateReport: (worker: WorkerHandle, report: StepReport) => void;
  /** What became of the shards of a checkpoint that a generation which is over was asked for. */
  readonly onLateSaved: (worker: WorkerHandle, message: SavedMessage | FailedMessage) => void;
}

export class Roster {
  readonly #init: RosterInit;
  readonly #preparing = new Set<WorkerHandle>();
  readonly #ready = new Map<WorkerHandle, ReadyWorker>();
  /** Workers whose state differs from the others' until it is replaced. */
  readonly #distrusted: Set<string>;
  /** Worker ids, and until when they take no part, ms of the clock. */
  readonly #leftOut = new Map<string, number>();
  readonly #strikes = new Strikes();
  #lastFailure = '';
  /** Of those that train. */
  #engineFingerprint: string | undefined;

  constructor(init: RosterInit) {
    this.#init = init;
    this.#distrusted = new Set(init.distrusted);
  }

  get preparing(): readonly WorkerHandle[] {
    return [...this.#preparing].filter((worker) => this.#takesPart(worker));
  }

  /** Those who are excluded, or left out for a while, are not among them. */
  get ready(): readonly ReadyWorker[] {
    return [...this.#ready.values()].filter(({ worker }) => this.#takesPart(worker));
  }

  /** What the last worker that could not get ready said; '' where none did. */
  get lastFailure(): string {
    return this.#lastFailure;
  }

  /** Why a worker is not admitted any more; undefined where it is. */
  excludedBecause(workerId: string): string | undefined {
    return this.#strikes.reason(workerId);
  }

  /** Ready workers outside the generation. */
  waiting(members: readonly WorkerHandle[]): ReadyWorker[] {
    const areMembers = new Set(members);
    return this.ready.filter(({ worker }) => !areMembers.has(worker));
  }

  of(worker: WorkerHandle): ReadyWorker | undefined {
    return this.#ready.get(worker);
  }

  /** Handles an event that no generation needs. */
  handle(event: ControlEvent): void {
    const { worker } = event;
    switch (event.kind) {
      case 'joined':
        this.#welcome(worker);
        break;
      case 'lost':
        this.#remove(worker, event.error.message);
        break;
      case 'message':
        this.#receive(worker, event.message);
    }
  }

  /** What a worker holds from now on; nothing that counts where it is distrusted. */
  setHeldStep(worker: WorkerHandle, step: number | null): void {
    const known = this.#ready.get(worker);
    if (known === undefined) return;
    this.#ready.set(worker, { ...known, heldStep: this.#distrusted.has(worker.workerId) ? null : step });
  }

  /** A generation has put the state of this step in place, the same on all its members. */
  trustNewState(worker: WorkerHandle, step: number): void {
    this.#distrusted.delete(worker.workerId);
    this.setHeldStep(worker, step);
  }

  /**
   * Their states differ from that of the others, or from each other: they do not count until replaced.
   * @param goodUntil the last step of their generation that has no wrong gradient of theirs, where there is such a one
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

  /** It stays connected, and takes no part for a while. */
  leaveOut(workerId: string, reason: string): void {
    const { clock, log } = this.#init;
    this.#leftOut.set(workerId, clock.monotonicMs() + LEFT_OUT_MS);
    log.warn({ workerId, forMs: LEFT_OUT_MS, reason }, 'worker left out');
  }

  /** A member failed, or was lost, in this step. Three times in the same one, and it is not admitted any more. */
  strike(worker: WorkerHandle, step: number, reason: string): void {
    const excluded = this.#strikes.add(worker.workerId, step, reason);
    if (excluded === undefined) return;
    this.#init.log.error({ workerId: worker.workerId, step, reason: excluded }, 'worker excluded');
    worker.drop('JOIN_REFUSED', excluded);
  }

  #takesPart({ workerId, isGone }: WorkerHandle): boolean {
    const untilMs = this.#leftOut.get(workerId);
    if (isGone || this.#strikes.reason(workerId) !== undefined) return false; // that it is gone may be heard later
    return untilMs === undefined || this.#init.clock.monotonicMs() >= untilMs;
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
      case 'formed':
      case 'aborted':
      case 'not-finite':
        break; // it answers a generation that is over
    }
  }

  #welcome(worker: WorkerHandle): void {
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
    worker.send({ kind: 'welcome', epoch, runId, config, preparedFolder, mixtureHash, committedStep: step });
  }

  #receiveReady(worker: WorkerHandle, facts: ReadyMessage): void {
    if (!this.#preparing.delete(worker)) return;
    const refused = this.#differenceOf(worker, facts);
    if (refused !== undefined) {
      this.#init.log.error({ workerId: worker.workerId, reason: refused }, 'worker refused');
      worker.drop('JOIN_REFUSED', refused);
      return;
    }
    const { runId, epoch, heldSince, log } = this.#init;
    const { held, engine, engineFingerprint, engineNotes, numParameters } = facts;
    const counts =
      held?.runId === runId && held.epoch >= heldSince && held.epoch <= epoch && !this.#distrusted.has(worker.workerId);
    const heldStep = counts ? held.step : null;
    const others = this.ready;
    this.#ready.set(worker, { worker, facts, heldStep });
    const { workerId } = worker;
    log.info({ workerId, engine, engineFingerprint, numParameters, heldStep }, 'worker ready');
    for (const reason of engineNotes ?? [])
      if (!others.some((other) => other.facts.engineNotes?.includes(reason) === true))
        log.warn({ workerId, reason }, 'engine not as it could be');
  }

  /** From then on nobody is admitted who has another one. */
  setEngine(fingerprint: string): void {
    this.#engineFingerprint = fingerprint;
  }

  /** In what a worker differs from those that train; undefined where in nothing, or nobody has trained. */
  #differenceOf(worker: WorkerHandle, facts: ReadyMessage): string | undefined {
    const engineFingerprint = this.#engineFingerprint;
    if (engineFingerprint === undefined) return undefined; // who is there at the start is compared when the first generation is formed
    return differenceOf(worker, facts, { engineFingerprint, mixtureHash: this.#init.mixture.hash })?.message;
  }

  /** Of no generation yet: it could not get ready. */
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
    if (wasHere) this.#init.log.warn({ workerId: worker.workerId, reason }, 'worker left');
  }
}

// FOLDED roster.ts
/** Which workers fail again and again at the same point: pure but for the counts. */

/** Failures in the same step after which a worker is not admitted any more. */
const MOST_STRIKES = 3;

interface Record {
  readonly step: number;
  readonly count: number;
  readonly reason: string;
}

export class Strikes {
  readonly #records = new Map<string, Record>();

  /**
   * Counts a failure; one in another step begins anew.
   * @param step the step that was under way
   * @returns why the worker is excluded, with the last one it can have
   */
  add(workerId: string, step: number, reason: string): string | undefined {
    const before = this.#records.get(workerId);
    const count = before?.step === step ? before.count + 1 : 1;
    this.#records.set(workerId, { step, count, reason });
    return this.reason(workerId);
  }

  /** Why a worker is not admitted; undefined where it is. */
  reason(workerId: string): string | undefined {
    const record = this.#records.get(workerId);
    if (record === undefined || record.count < MOST_STRIKES) return undefined;
    return `${workerId} has failed ${record.count} times in step ${record.step}, last: ${record.reason}`;
  }
}
