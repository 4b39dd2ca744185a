/**
 * Worker processes of one host under `exmix train`: started, adopted from an `exmix train` that was killed, started again with
 * back-off when they end, given up when that does not help (restart-rule.ts), stopped together.
 *
 * Worker `local-<n>` takes the n-th device of the host; n stays taken while the worker is wanted, also when it was given up. The token
 * goes by environment, never by the command line. Assumes that the caller owns the run folder, so nobody else starts workers in it.
 */
import { join } from 'node:path';
import { waitAtMost } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import type { WorkerHost, WorkerHostStart } from '../../coordinator/membership/worker-host.ts';
import { assertInvariant, toErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
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

/** From SIGTERM to SIGKILL, and from there until an end is not waited for any more, ms. */
const KILL_AFTER_MS = 5_000;

export interface LocalWorkersInit {
  /** Workers to have from the start; orphans beyond it are adopted too. */
  readonly count: number;
  readonly clock: Clock;
  readonly restart: RestartOptions;
  /** Time for the workers to leave by themselves once the run is over, ms. */
  readonly graceMs: number;
  /** Program and first arguments of a worker, which takes the options of `exmix worker`; default: that. */
  readonly command?: readonly [string, ...string[]];
}

export interface LocalWorkerView {
  readonly workerId: string;
  /** Of the process it has or had last; null where none could be started. */
  readonly pid: number | null;
  readonly state: LocalWorkerState;
}

/** `waiting`: for its restart. */
export type LocalWorkerState = 'running' | 'waiting' | 'given-up';

interface LocalWorker {
  readonly index: number;
  readonly workerId: string;
  readonly logFile: string;
  process: WorkerProcess;
  state: LocalWorkerState;
  /** Since the last progress. */
  numRestarts: number;
  /** When its process was started. */
  numCommitted: number;
  /** The last change of its file; never rejects. */
  file: Promise<void>;
  /** Resolves when it has ended for good and its file is gone. */
  over: Promise<void>;
}

export class LocalWorkers implements WorkerHost {
  readonly #init: LocalWorkersInit;
  #start!: WorkerHostStart;
  /** Pid of the process of each worker that ended last. */
  readonly #endedPids = new Map<string, number>();
  #failure: string | undefined;
  /** By number; those that left in order are not among them. */
  readonly #workers = new Map<number, LocalWorker>();
  readonly #stopping = new AbortController();
  readonly #abandoned = new AbortController();
  #isStarted = false;

  constructor(init: LocalWorkersInit) {
    this.#init = init;
  }

  /**
   * Adopts what is there, starts what is missing; resolves when the next `exmix train` could adopt them all.
   * @throws PATH_UNUSABLE where the folder cannot be read; nothing was started then
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

  /** Starts one more. @returns its id @throws ABORTED once they are being stopped */
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

  /** @returns whether a worker of this name runs here */
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

  /** Waits until all have exited by themselves; those that have not by then are ended. Nothing is started any more. */
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
    if (orphan === undefined) this.#noteStart(worker);
    else log.info({ workerId, pid: orphan.pid }, 'worker adopted');
    worker.over = this.#supervise(worker);
  }

  #startProcess(index: number, logFile: string): WorkerProcess {
    const { command = [...nodeCommand(EXMIX_ENTRY), 'worker'] } = this.#init;
    const { url, token } = this.#start;
    const place = ['--url', url, '--id', localWorkerId(index), '--local-rank', String(index)];
    return startProcess({
      command: [...command, ...place],
      env: { ...process.env, EXMIX_TOKEN: token },
      logFile,
      abandoned: this.#abandoned.signal,
    });
  }

  #noteStart(worker: LocalWorker): void {
    const { index, workerId, process } = worker;
    const { identity } = process;
    if (identity === null) return;
    const { log, logFolder, url } = this.#start;
    log.info({ workerId, pid: identity.pid }, 'worker started');
    void this.#changeFile(worker, () => writeWorkerFile(logFolder, index, { process: identity, url }));
  }

  /** Until the worker is over for good, or is not waited for any more. */
  async #supervise(worker: LocalWorker): Promise<void> {
    const { index, workerId } = worker;
    for (;;) {
      const end = await endOf(worker.process);
      if (end === undefined) return; // its file stays: it may still be there
      const pid = worker.process.identity?.pid;
      if (pid !== undefined) this.#endedPids.set(workerId, pid);
      const decision = this.#decide(worker, end);
      this.#noteEnd(worker, end, decision);
      if (decision.kind === 'give-up') {
        this.#giveUp(worker, decision.reason);
        break;
      }
      if (decision.kind === 'leave' || !(await this.#pause(worker, decision))) break;
      worker.numRestarts = decision.attempt;
      worker.numCommitted = this.#start.progress.numCommitted(workerId);
      worker.process = this.#startProcess(index, worker.logFile);
      worker.state = 'running';
      this.#noteStart(worker);
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

  /** @returns false where the workers are stopped meanwhile */
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

  #giveUp(worker: LocalWorker, why: string): void {
    const { workerId, logFile, process } = worker;
    const pid = process.identity?.pid;
    const who = pid === undefined ? workerId : `${workerId} (pid ${pid})`;
    const reason = `worker ${who} ${why}; its log is ${logFile}`;
    worker.state = 'given-up';
    this.#start.log.error({ workerId, pid, reason }, 'worker given up');
    this.#failure ??= reason;
  }

  #noteEnd({ workerId, process: { identity } }: LocalWorker, end: WorkerEnd, decision: RestartDecision): void {
    if (end.kind === 'not-started') return; // nothing ran; the next record says why
    const exitCode = end.kind === 'exited' ? end.status : null;
    const signal = end.kind === 'killed' ? end.signal : null;
    const isInOrder = decision.kind === 'leave' && (exitCode === 0 || end.kind === 'vanished');
    const level = isInOrder ? 'debug' : 'warn';
    this.#start.log[level]({ workerId, pid: identity?.pid, exitCode, signal }, 'worker exited');
  }

  /** One change after the other. A file that cannot be written costs the adoption of the worker, not the run. */
  #changeFile(worker: LocalWorker, change: () => Promise<void>): Promise<void> {
    const { workerId } = worker;
    worker.file = worker.file.then(change).catch((error: unknown) => {
      const { code, message: reason } = toErrorRecord(error);
      this.#start.log.warn({ workerId, code, reason }, 'worker file not written');
    });
    return worker.file;
  }
}

/** undefined once it is not watched any more. */
async function endOf(process: WorkerProcess): Promise<WorkerEnd | undefined> {
  try {
    return await process.ended;
  } catch (error) {
    if (toTrainerError(error).code === 'ABORTED') return undefined;
    throw error;
  }
}
