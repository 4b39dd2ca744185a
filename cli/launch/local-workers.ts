/**
 * Manages the worker processes of one host under `exmix train`: starts them, adopts those of a killed `exmix train`, restarts ended ones
 * with back-off up to a limit (restart-rule.ts), and stops them together.
 *
 * Worker `local-<n>` uses the n-th device of the host. A worker that is no longer restarted keeps its n. The token is passed in the
 * environment, never on the command line. Assumes that the caller owns the run folder, so no other process starts workers in it.
 */
import { join } from 'node:path';
import { waitAtMost } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import type { WorkerHost, WorkerHostStart } from '../../coordinator/membership/worker-host.ts';
import { assertInvariant, toErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { EXIT_INTERRUPTED, EXIT_RUN_FAILED } from '../exit-codes.ts';
import { EXMIX_ENTRY, nodeCommand } from '../../shared/package-files.ts';
import type { ProcessIdentity } from '../../shared/process-identity.ts';
import { findOrphans } from './find-orphans.ts';
import {
  decideRestart,
  type Restart,
  type RestartDecision,
  type RestartOptions,
  type WorkerEnd,
} from './restart-rule.ts';
import { localWorkerId, removeWorkerFile, writeWorkerFile } from './worker-files.ts';
import { adoptProcess, startProcess, type WorkerProcess } from './worker-process.ts';

/** From SIGTERM to SIGKILL, and from SIGKILL to the end of the wait, ms. */
const KILL_AFTER_MS = 5_000;

export interface LocalWorkersInit {
  /** Workers at the start; orphans in excess of it are adopted too. */
  readonly count: number;
  readonly clock: Clock;
  readonly restart: RestartOptions;
  /** After the end of the run, workers have so long to exit without a signal, ms. */
  readonly graceMs: number;
  /** Program and first arguments of a worker; must accept the options of `exmix worker`, which is the default. */
  readonly command?: readonly [string, ...string[]];
}

export interface LocalWorkerView {
  readonly workerId: string;
  /** Pid of its current or last process; null if none could be started. */
  readonly pid: number | null;
  readonly state: LocalWorkerState;
}

/** `waiting`: its restart is due later. `given-up`: it is not restarted. */
export type LocalWorkerState = 'running' | 'waiting' | 'given-up';

interface LocalWorker {
  readonly index: number;
  readonly workerId: string;
  readonly logFile: string;
  process: WorkerProcess;
  state: LocalWorkerState;
  /** Restarts since the last progress. */
  numRestarts: number;
  /** Its committed steps when its process was started. */
  numCommitted: number;
  /** Resolves when the last change of its file is done; never rejects. */
  file: Promise<void>;
  /** Resolves when it has ended, is not restarted and its file is removed. */
  over: Promise<void>;
}

export class LocalWorkers implements WorkerHost {
  readonly #init: LocalWorkersInit;
  #start!: WorkerHostStart;
  /** Pid of the last ended process of each worker. */
  readonly #endedPids = new Map<string, number>();
  #failure: string | undefined;
  /** By index, without workers that ended in order. */
  readonly #workers = new Map<number, LocalWorker>();
  readonly #stopping = new AbortController();
  readonly #abandoned = new AbortController();
  #isStarted = false;

  constructor(init: LocalWorkersInit) {
    this.#init = init;
  }

  /**
   * Adopts orphans and starts the missing workers. Resolves when all worker files are written, so that a next `exmix train` can adopt.
   * @throws PATH_UNUSABLE if the folder cannot be read; no worker was started then
   */
  async start(start: WorkerHostStart): Promise<void> {
    this.#start = start;
    const { clock, count } = this.#init;
    const { logFolder: folder, url, log } = start;
    const orphans = await findOrphans({ folder, url, log, clock, endWithinMs: KILL_AFTER_MS });
    for (const [index, identity] of orphans) this.#open(index, identity);
    for (let index = 0; index < count; index++) if (!this.#workers.has(index)) this.#open(index);
    this.#isStarted = true;
    await Promise.all([...this.#workers.values()].map(({ file }) => file));
  }

  /** Starts one more worker. @returns its id @throws ABORTED after stop() was called */
  add(): string {
    assertInvariant(this.#isStarted, 'local workers are added after the start');
    if (this.#stopping.signal.aborted) throw new TrainerError('ABORTED', 'the local workers are being stopped');
    let index = 0;
    while (this.#workers.has(index)) index++;
    this.#open(index);
    return localWorkerId(index);
  }

  list(): LocalWorkerView[] {
    return [...this.#workers.values()]
      .sort((a, b) => a.index - b.index)
      .map(({ workerId, process, state }) => ({ workerId, pid: process.identity?.pid ?? null, state }));
  }

  /** @returns false if no such worker is running */
  kill(workerId: string): boolean {
    const worker = [...this.#workers.values()].find((candidate) => candidate.workerId === workerId);
    if (worker?.state !== 'running') return false;
    const reason = 'it did not answer the coordinator';
    this.#start.log.warn({ workerId, pid: worker.process.identity?.pid, reason }, 'worker killed');
    worker.process.signal('SIGKILL');
    return true;
  }

  hasEnded(workerId: string, pid: number): boolean {
    return this.#endedPids.get(workerId) === pid;
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  /** Waits `graceMs` for the workers to exit, then ends the remaining ones by signals. No worker is started any more. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const { clock, graceMs } = this.#init;
    const workers = [...this.#workers.values()];
    const all = Promise.all(workers.map(({ over }) => over));
    await waitAtMost(all, graceMs, clock);
    this.#signalAll('SIGTERM');
    await waitAtMost(all, KILL_AFTER_MS, clock);
    this.#signalAll('SIGKILL');
    await waitAtMost(all, KILL_AFTER_MS, clock);
    for (const { workerId, pid, state } of this.list())
      if (state === 'running') this.#start.log.error({ workerId, pid }, 'worker does not end');
    this.#abandoned.abort();
    await all;
  }

  #signalAll(name: 'SIGTERM' | 'SIGKILL'): void {
    for (const { process, state } of this.#workers.values()) if (state === 'running') process.signal(name);
  }

  #open(index: number, orphan?: ProcessIdentity): void {
    const { clock } = this.#init;
    const { logFolder, log, progress } = this.#start;
    const workerId = localWorkerId(index);
    const logFile = join(logFolder, `${workerId}.log`);
    const worker: LocalWorker = {
      index,
      workerId,
      logFile,
      process:
        orphan === undefined ? this.#startProcess(index, logFile) : adoptProcess(orphan, clock, this.#abandoned.signal),
      state: 'running',
      numRestarts: 0,
      numCommitted: progress.numCommitted(workerId),
      file: Promise.resolve(),
      over: Promise.resolve(),
    };
    this.#workers.set(index, worker);
    if (orphan === undefined) this.#recordStart(worker);
    else log.info({ workerId, pid: orphan.pid }, 'worker adopted');
    worker.over = this.#supervise(worker);
  }

  #startProcess(index: number, logFile: string): WorkerProcess {
    const { command = [...nodeCommand(EXMIX_ENTRY), 'worker'] } = this.#init;
    const { url, token } = this.#start;
    const options = ['--url', url, '--id', localWorkerId(index), '--local-rank', String(index)];
    return startProcess({
      command: [...command, ...options],
      env: { ...process.env, EXMIX_TOKEN: token },
      logFile,
      abandoned: this.#abandoned.signal,
    });
  }

  #recordStart(worker: LocalWorker): void {
    const { index, workerId, logFile, process } = worker;
    const { identity, outputLost: code } = process;
    if (identity === null) return;
    const { log, logFolder, url } = this.#start;
    log.info({ workerId, pid: identity.pid }, 'worker started');
    if (code !== undefined) log.warn({ workerId, file: logFile, code }, 'worker output not kept');
    void this.#changeFile(worker, () => writeWorkerFile(logFolder, index, { process: identity, url }));
  }

  /** Returns when the worker has ended and is not restarted, or when stop() no longer waits for it. */
  async #supervise(worker: LocalWorker): Promise<void> {
    const { index, workerId } = worker;
    for (;;) {
      const end = await endOf(worker.process);
      if (end === undefined) return; // keep its file: it may still be alive
      const pid = worker.process.identity?.pid;
      if (pid !== undefined) this.#endedPids.set(workerId, pid);
      const decision = this.#decide(worker, end);
      this.#recordEnd(worker, end, decision);
      if (decision.kind === 'give-up') {
        this.#markGivenUp(worker, decision.reason);
        break;
      }
      if (decision.kind === 'leave' || !(await this.#pause(worker, decision))) break;
      worker.numRestarts = decision.attempt;
      worker.numCommitted = this.#start.progress.numCommitted(workerId);
      worker.process = this.#startProcess(index, worker.logFile);
      worker.state = 'running';
      this.#recordStart(worker);
    }
    await this.#changeFile(worker, () => removeWorkerFile(this.#start.logFolder, index));
    if (worker.state !== 'given-up') this.#workers.delete(index);
  }

  #decide({ workerId, numRestarts, numCommitted }: LocalWorker, end: WorkerEnd): RestartDecision {
    const { progress } = this.#start;
    const isStopping = this.#stopping.signal.aborted;
    const hasProgressed = progress.numCommitted(workerId) > numCommitted;
    const isDismissed = progress.isDismissed(workerId);
    return decideRestart({ end, numRestarts, hasProgressed, isStopping, isDismissed }, this.#init.restart);
  }

  /** @returns false if the workers are stopped meanwhile */
  async #pause(worker: LocalWorker, decision: Restart): Promise<boolean> {
    const { clock } = this.#init;
    const { log } = this.#start;
    const { afterMs: pauseMs, attempt, reason } = decision;
    const { signal } = this.#stopping;
    worker.state = 'waiting';
    log.warn({ workerId: worker.workerId, pauseMs, attempt, reason }, 'worker restarts');
    await clock.sleep(pauseMs, signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
    return !signal.aborted;
  }

  #markGivenUp(worker: LocalWorker, why: string): void {
    const { workerId, logFile, process } = worker;
    const pid = process.identity?.pid;
    const who = pid === undefined ? workerId : `${workerId} (pid ${pid})`;
    const reason = `worker ${who} ${why}; its log is ${logFile}`;
    worker.state = 'given-up';
    this.#start.log.error({ workerId, pid, reason }, 'worker given up');
    this.#failure ??= reason;
  }

  #recordEnd({ workerId, process: { identity } }: LocalWorker, end: WorkerEnd, decision: RestartDecision): void {
    if (end.kind === 'not-started') return; // no process ran; the next record has the reason
    const exitCode = end.kind === 'exited' ? end.status : null;
    const signal = end.kind === 'killed' ? end.signal : null;
    const isDismissed = exitCode === 0 || exitCode === EXIT_INTERRUPTED || exitCode === EXIT_RUN_FAILED; // as the run ended
    const isInOrder = decision.kind === 'leave' && (isDismissed || end.kind === 'vanished');
    const level = isInOrder ? 'debug' : 'warn';
    this.#start.log[level]({ workerId, pid: identity?.pid, exitCode, signal }, 'worker exited');
  }

  /** Changes are made in order. Without its file a worker cannot be adopted later, but the run continues. */
  #changeFile(worker: LocalWorker, change: () => Promise<void>): Promise<void> {
    const { workerId } = worker;
    worker.file = worker.file.then(change).catch((error: unknown) => {
      const { code, message: reason } = toErrorRecord(error);
      this.#start.log.warn({ workerId, code, reason }, 'worker file not written');
    });
    return worker.file;
  }
}

/** @returns undefined if the process is no longer watched */
async function endOf(process: WorkerProcess): Promise<WorkerEnd | undefined> {
  try {
    return await process.ended;
  } catch (error) {
    if (toTrainerError(error).code === 'ABORTED') return undefined;
    throw error;
  }
}
