/**
 * Evaluates a model without a run: a small coordinator that deals the batches of a plan to workers until every batch has its result.
 *
 * Workers join, leave and die at any time; results are the same. All results are of one engine: that of the first worker that is ready.
 * Workers with another one are refused.
 */
import type { BatchResult } from '../../evaluation/batch-messages.ts';
import { PauseDetector, TICK_MS } from '../membership/tick.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import type { EvaluationConfig } from '../../shared/config/evaluation-config.ts';
import { fromErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import type { EvaluatedMessage, EvaluationWork, MessageOf } from '../../shared/protocol/messages.ts';
import type { Transport } from '../../shared/transport/transport.ts';
import { describeOtherEngine } from '../membership/check-alike.ts';
import { ControlServer, type ControlEvent } from '../membership/control-server.ts';
import type { WorkerHandle } from '../membership/worker-handle.ts';
import type { WorkerHost } from '../membership/worker-host.ts';
import { BatchDealer } from './batch-dealer.ts';

/** The most workers of an evaluation, unless the config says otherwise. */
const MAX_WORKERS = 1_024;

export interface EvaluationPlan {
  /** The message of a batch. */
  work(batch: number): EvaluationWork;
  /** @throws MESSAGE_INVALID for a result that is not of this batch */
  read(batch: number, result: Exclude<EvaluatedMessage['result'], { kind: 'failed' }>): BatchResult;
}

export interface EvaluationResults {
  /** @returns the batches that have no result by this engine */
  begin(engineFingerprint: string): Promise<readonly number[]>;
  add(batch: number, result: BatchResult): Promise<void>;
  /**
   * Of a plan that grows: its next batches, when they are known; undefined after the last. It is called when the workers could hold more
   * batches than wait, and not before it has answered. After a failure the known batches are finished first. Left out: `begin` names all.
   */
  more?(): Promise<readonly number[] | undefined>;
}

export interface RunEvaluationInit {
  readonly config: EvaluationConfig;
  readonly model: { readonly folder: string; readonly paramDigest: string };
  readonly plan: EvaluationPlan;
  readonly results: EvaluationResults;
  readonly token: string;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Logger;
  /** Started when the coordinator listens. */
  readonly workerHost: WorkerHost;
  /** Folder for the output of the workers of this host. */
  readonly logFolder: string;
  /** Called when workers can dial. @returns the URL that workers of this host dial */
  readonly onListening: (url: string) => Promise<string>;
  /** Called after each result. @param numLeft batches without one */
  readonly onResult: (batch: number, numLeft: number) => void;
  readonly signal: AbortSignal;
}

/**
 * @returns when every batch has its result
 * @throws RENDEZVOUS_TIMEOUT where no worker is ready in time; WORKER_LOST where the workers of this host are not started again and no other is
 *   there; what `results` throws; the last failure of a batch that was tried too often; ABORTED
 */
export async function runEvaluation(init: RunEvaluationInit): Promise<void> {
  await new EvaluationServer(init).run();
}

class EvaluationServer {
  readonly #init: RunEvaluationInit;
  readonly #epoch: number;
  readonly #server: ControlServer;
  readonly #ready = new Set<WorkerHandle>();
  readonly #numDone = new Map<string, number>();
  readonly #pauses: PauseDetector;
  /** Undefined until a worker is ready. */
  #dealer: BatchDealer<WorkerHandle> | undefined;
  #engineFingerprint: string | undefined;
  #numLeft = 0;
  /** Whether `more` was asked, and its answer is not dealt yet. */
  #isGrowing = false;
  #coming: readonly number[] | 'end' | TrainerError | undefined;
  /** Whether all batches of the plan are known. */
  #isWhole = false;
  /** Why further batches are not known: thrown when the known ones are finished. */
  #failure: TrainerError | undefined;
  /** Since when no worker is ready, ms. */
  #idleMs: number;
  /** What the last worker said that could not get ready, for the error. */
  #lastFailure = '';
  #isEnding = false;

  constructor(init: RunEvaluationInit) {
    this.#init = init;
    const { config, transport, clock, log, token, workerHost } = init;
    const { listenHost: host, heartbeatTimeoutMs: silenceMs, maxWorkers = MAX_WORKERS } = config.cluster;
    // Later coordinators of this evaluation have a later epoch, without a file that counts them.
    this.#epoch = Math.floor(clock.wallMs() / 1000);
    this.#idleMs = clock.monotonicMs();
    this.#pauses = new PauseDetector(this.#idleMs);
    this.#server = new ControlServer({
      ...{ transport, clock, log, host, token, maxWorkers, silenceMs },
      ...{ epoch: this.#epoch, size: { numLanes: 0, numTasks: 0 }, routes: {} },
      onHung: (workerId) => workerHost.kill(workerId),
    });
  }

  async run(): Promise<void> {
    const { config, workerHost, token, log, logFolder, onListening } = this.#init;
    let outcome: MessageOf<'finish'>['outcome'] = 'failed';
    let reason = 'the evaluation has failed';
    try {
      const url = await onListening(await this.#server.listen(config.cluster.listenPort));
      const progress = {
        numCommitted: (workerId: string) => this.#numDone.get(workerId) ?? 0,
        isDismissed: () => this.#isEnding,
      };
      await workerHost.start({ url, token, logFolder, log, progress });
      await this.#deal();
      [outcome, reason] = ['finished', 'every batch has its result'];
    } catch (thrown) {
      const error = toTrainerError(thrown);
      if (error.code === 'ABORTED') outcome = 'interrupted';
      reason = error.message;
      throw error;
    } finally {
      this.#isEnding = true;
      await this.#server.dismiss(reason.slice(0, 256), outcome);
      await workerHost.stop();
      await this.#server.close();
    }
  }

  async #deal(): Promise<void> {
    const { signal } = this.#init;
    for (;;) {
      throwIfAborted(signal, 'evaluating');
      this.#takeComing();
      if (this.#dealer?.isDone === true && this.#isWhole) {
        if (this.#failure !== undefined) throw this.#failure;
        return;
      }
      const givenUp = this.#dealer?.givenUp;
      if (givenUp !== undefined)
        throw new TrainerError('WORKER_LOST', `batch ${givenUp.batch} was tried too often, last: ${givenUp.reason}`);
      this.#checkWorkers();
      do {
        const event = await this.#server.events.next(TICK_MS, signal);
        if (event === undefined) this.#dropHung();
        else await this.#handle(event);
      } while (this.#server.events.size > 0);
    }
  }

  async #handle(event: ControlEvent): Promise<void> {
    const { worker } = event;
    switch (event.kind) {
      case 'joined':
        this.#welcome(worker);
        break;
      case 'lost':
        this.#remove(worker, event.error.message);
        break;
      case 'message':
        await this.#receive(worker, event.message);
    }
  }

  #welcome(worker: WorkerHandle): void {
    const { config, model, log } = this.#init;
    const { workerId, host, pid } = worker;
    log.info({ workerId, host, pid }, 'worker joined');
    const { paramDigest, folder } = model;
    const runId = `evaluation of ${paramDigest}`;
    worker.send({ kind: 'welcome-evaluation', epoch: this.#epoch, runId, config, model: folder, paramDigest });
  }

  async #receive(worker: WorkerHandle, message: Extract<ControlEvent, { kind: 'message' }>['message']): Promise<void> {
    switch (message.kind) {
      case 'evaluation-ready':
        await this.#receiveReady(worker, message);
        break;
      case 'evaluated':
        await this.#receiveResult(worker, message);
        break;
      case 'failed': {
        const { code, message: reason } = message.error;
        this.#init.log.warn({ workerId: worker.workerId, code, reason }, 'worker could not get ready');
        this.#lastFailure = `; ${worker.toString()} said ${code}: ${reason}`;
        worker.drop('WORKER_LOST', 'it could not get ready');
        break;
      }
      case 'drain':
        break; // it leaves by itself: it holds no state
      case 'ready':
      case 'formed':
      case 'report':
      case 'not-finite':
      case 'saved':
      case 'aborted':
      case 'links-probed':
        worker.drop('MESSAGE_INVALID', `expected evaluation-ready or evaluated, got ${message.kind}`);
    }
  }

  async #receiveReady(worker: WorkerHandle, facts: MessageOf<'evaluation-ready'>): Promise<void> {
    const { log, results } = this.#init;
    const { workerId } = worker;
    const { engine, engineFingerprint, numParameters, engineNotes = [] } = facts;
    const expected = this.#engineFingerprint;
    if (expected !== undefined && engineFingerprint !== expected) {
      const reason = describeOtherEngine(engineFingerprint, expected);
      log.error({ workerId, reason }, 'worker refused');
      this.#lastFailure = `; refused ${workerId}: ${reason}`;
      worker.drop('JOIN_REFUSED', reason);
      return;
    }
    log.info({ workerId, engine, engineFingerprint, numParameters }, 'worker ready');
    if (this.#dealer === undefined) {
      for (const reason of engineNotes) log.warn({ workerId, reason }, 'engine not as it could be');
      this.#engineFingerprint = engineFingerprint;
      const missing = await results.begin(engineFingerprint);
      this.#numLeft = missing.length;
      this.#dealer = new BatchDealer(missing);
      this.#isWhole = results.more === undefined;
    }
    if (worker.isGone) return;
    this.#ready.add(worker);
    this.#dealer.join(worker);
    this.#dealAll();
  }

  async #receiveResult(worker: WorkerHandle, { batch, result }: EvaluatedMessage): Promise<void> {
    const { plan, results, log, onResult } = this.#init;
    const { workerId } = worker;
    const dealer = this.#dealer;
    if (dealer?.heldBy(worker).includes(batch) !== true) {
      worker.drop('MESSAGE_INVALID', `batch ${batch} was not dealt to it`);
      return;
    }
    try {
      if (result.kind === 'failed') throw fromErrorRecord(result.error);
      const found = plan.read(batch, result);
      await results.add(batch, found);
      dealer.finish(worker, batch);
      this.#numDone.set(workerId, (this.#numDone.get(workerId) ?? 0) + 1);
      onResult(batch, --this.#numLeft);
    } catch (thrown) {
      const { code, message: reason } = toTrainerError(thrown);
      if (result.kind !== 'failed' && code !== 'MESSAGE_INVALID') throw thrown; // the disk's
      log.warn({ workerId, batch, code, reason }, 'batch failed');
      dealer.fail(worker, batch, `${worker.toString()} said ${code}: ${reason}`);
    }
    this.#dealAll();
  }

  /** Round by round, so that a few batches are shared by all. */
  #dealAll(): void {
    const dealer = this.#dealer!;
    for (let isDealt = true; isDealt;) {
      isDealt = false;
      for (const worker of this.#ready) {
        const batch = dealer.next(worker);
        if (batch === undefined) continue;
        isDealt = true;
        worker.progressMs = Math.max(worker.progressMs, this.#init.clock.monotonicMs());
        worker.send({
          kind: 'evaluate',
          epoch: this.#epoch,
          generation: 0,
          batch,
          work: this.#init.plan.work(batch),
        });
      }
    }
    this.#grow();
  }

  /** Asks for further batches where the workers want some; they are dealt when they come, and no event waits for them. */
  #grow(): void {
    const { results } = this.#init;
    if (this.#isGrowing || this.#isWhole || !this.#dealer!.isShort) return;
    this.#isGrowing = true;
    void results.more!()
      .then(
        (batches) => (this.#coming = batches ?? 'end'),
        (thrown: unknown) => (this.#coming = toTrainerError(thrown)),
      )
      .finally(() => this.#server.events.wake());
  }

  /** Deals the batches that have come. */
  #takeComing(): void {
    const coming = this.#coming;
    if (coming === undefined) return;
    this.#coming = undefined;
    this.#isGrowing = false;
    if (coming instanceof TrainerError) this.#failure = coming;
    if (coming === 'end' || coming instanceof TrainerError) {
      this.#isWhole = true;
      return;
    }
    this.#numLeft += coming.length;
    this.#dealer!.add(coming);
    this.#dealAll();
  }

  #remove(worker: WorkerHandle, reason: string): void {
    this.#dealer?.leave(worker, reason);
    this.#ready.delete(worker);
    if (this.#ready.size === 0) this.#idleMs = this.#init.clock.monotonicMs();
    const { workerId } = worker;
    this.#init.log[worker.isDismissed ? 'info' : 'warn']({ workerId, reason }, 'worker left');
    if (this.#dealer !== undefined) this.#dealAll();
  }

  /** @throws WORKER_LOST, RENDEZVOUS_TIMEOUT */
  #checkWorkers(): void {
    const { workerHost, config, clock } = this.#init;
    if (this.#ready.size > 0) return;
    const { failure } = workerHost;
    const isAnybodyThere = this.#server.workers().length > 0;
    if (failure !== undefined && !isAnybodyThere) throw new TrainerError('WORKER_LOST', failure + this.#lastFailure);
    const { rendezvousTimeoutMs } = config.cluster;
    if (clock.monotonicMs() - this.#idleMs <= rendezvousTimeoutMs) return;
    const seconds = Math.round(rendezvousTimeoutMs / 1000);
    throw new TrainerError('RENDEZVOUS_TIMEOUT', `no worker was ready for ${seconds} s${this.#lastFailure}`);
  }

  /** Drops workers that hold a batch and make no progress; call it when no event waits. */
  #dropHung(): void {
    const { config, clock } = this.#init;
    const nowMs = clock.monotonicMs();
    if (this.#pauses.hasPaused(nowMs)) return;
    const { stepTimeoutMs } = config.cluster;
    for (const worker of this.#ready) {
      const [batch] = this.#dealer!.heldBy(worker);
      const stillMs = Math.round(nowMs - worker.progressMs);
      if (batch !== undefined && stillMs > stepTimeoutMs)
        worker.dropAsHung('WORKER_LOST', `no progress in batch ${batch} for ${stillMs} ms (limit ${stepTimeoutMs})`);
    }
  }
}
