/**
 * Supervises `exmix train` as a child and injects faults from outside. Reads new commits from the journal, decides the faults of each by a
 * seeded rule (decide-faults.ts), injects them by signals, and restarts a coordinator that it has killed. Faults of a step are decided once,
 * even if the step is committed again after a return to a checkpoint. No process is left at the end.
 */
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { auditLedger } from '../../coordinator/ledger/audit.ts';
import { replayJournal } from '../../coordinator/journal/journal.ts';
import { runPaths } from '../../coordinator/run-folder/run-folder.ts';
import { waitAtMost } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { toStorageError } from '../../shared/atomic-file.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { STOP_SIGNALS } from '../../shared/stop-signals.ts';
import { standardError, standardOutput } from '../../shared/standard-streams.ts';
import { EXIT_INTERRUPTED, EXIT_RUN_FAILED } from '../exit-codes.ts';
import { formatChaosReport, type ChaosRecord, type InjectedFault } from './chaos-report.ts';
import type { ChaosSpec } from './chaos-spec.ts';
import { CommitWatch } from './commit-watch.ts';
import { decideFaults, type Fault } from './decide-faults.ts';
import { RunProcesses } from './run-processes.ts';
import { childCommand, TrainProcess, type TrainEnd } from './train-process.ts';

/** Between two polls of the journal, ms. */
const POLL_INTERVAL_MS = 50;
/** From the end of a killed coordinator to the start of the next one, ms. */
const RESTART_PAUSE_MS = 1_000;
/** Exit status if the bits differ from those of the undisturbed run, or the ledger has violations. */
const EXIT_FOUND = 1;

export interface ChaosInit {
  /** Arguments of exmix, starting with `train`. */
  readonly argv: readonly string[];
  readonly runDir: string;
  /** Config of the run. */
  readonly config: RunConfig;
  readonly spec: ChaosSpec;
  readonly seed: number;
  /** Train the same run without faults afterwards, and compare. */
  readonly verify: boolean;
  readonly clock: Clock;
}

/** @returns the exit status of the run; 1 if the bits differ or the ledger has violations */
export async function runChaos(init: ChaosInit): Promise<number> {
  const chaos = new ChaosRun(init);
  const interrupt = (name: NodeJS.Signals): void => chaos.interrupt(name);
  for (const name of STOP_SIGNALS) process.on(name, interrupt);
  try {
    return await chaos.run();
  } finally {
    for (const name of STOP_SIGNALS) process.off(name, interrupt);
  }
}

class ChaosRun {
  readonly #init: ChaosInit;
  readonly #processes: RunProcesses;
  readonly #watch: CommitWatch;
  readonly #interrupted = new AbortController();
  #child: TrainProcess | undefined;
  readonly #records: ChaosRecord[] = [];
  /** How many of the records are in chaos.jsonl. */
  #numWritten = 0;
  /** Faults without a new step after them yet, with time and furthest step at their injection. */
  #open: { readonly number: number; readonly injectedMs: number; readonly furthestStep: number }[] = [];
  #numFaults = 0;
  /** The highest committed step so far. */
  #furthestStep = 0;
  /** Committed steps whose faults are not decided yet. */
  #undecided: number[] = [];

  constructor(init: ChaosInit) {
    this.#init = init;
    this.#processes = new RunProcesses(init);
    this.#watch = new CommitWatch(runPaths(init.runDir).journal);
  }

  /** Forwards the signal: the first one stops the run gently, the second one at once. */
  interrupt(name: NodeJS.Signals): void {
    this.#interrupted.abort();
    this.#processes.resumeAll();
    this.#child?.signal(name);
  }

  #isInterrupted(): boolean {
    return this.#interrupted.signal.aborted;
  }

  async run(): Promise<number> {
    const { argv, runDir, verify } = this.#init;
    let end: TrainEnd | undefined;
    try {
      this.#furthestStep = Math.max(0, ...(await this.#watch.poll()));
      end = await this.#disturb();
    } finally {
      await this.#processes.end();
    }
    await this.#recordRecoveries(await this.#watch.poll());
    let undisturbedDigest: string | null = null;
    const isDone = end?.status === 0;
    if (isDone && verify && !this.#isInterrupted()) {
      const folder = undisturbedFolder(runDir);
      this.#child = new TrainProcess(childCommand(argv, folder));
      const undisturbed = await this.#child.ended;
      if (undisturbed.status !== 0) end = undisturbed;
      else undisturbedDigest = (await finalState(folder)).paramDigest;
    }
    const { step, paramDigest } = await finalState(runDir);
    const numViolations = await this.#audit();
    const exitStatus = end?.status ?? null;
    await this.#record({ kind: 'ended', exitStatus, step, paramDigest, undisturbedDigest, numViolations });
    standardOutput.write(formatChaosReport(this.#records));
    if (this.#isInterrupted()) return EXIT_INTERRUPTED;
    if (exitStatus !== 0) return exitStatus ?? EXIT_RUN_FAILED;
    return (verify && undisturbedDigest !== paramDigest) || numViolations !== 0 ? EXIT_FOUND : 0;
  }

  /** @returns the end of the run; undefined if it was interrupted between two coordinators */
  async #disturb(): Promise<TrainEnd | undefined> {
    const { argv, runDir, clock } = this.#init;
    const { signal } = this.#interrupted;
    while (!this.#isInterrupted()) {
      const child = new TrainProcess(childCommand(argv, runDir));
      this.#child = child;
      while (child.isRunning) {
        if (!this.#isInterrupted()) await this.#observe();
        await waitAtMost(child.ended, POLL_INTERVAL_MS, clock);
      }
      const end = await child.ended;
      if (!end.isKilled) return end;
      await clock.sleep(RESTART_PAUSE_MS, signal).catch(() => undefined);
    }
    return undefined;
  }

  async #observe(): Promise<void> {
    const { config, spec, seed } = this.#init;
    const committed = await this.#watch.poll();
    await this.#recordRecoveries(committed);
    for (const step of committed) {
      if (step > this.#furthestStep && step < config.training.steps) this.#undecided.push(step);
      this.#furthestStep = Math.max(this.#furthestStep, step);
    }
    if (this.#undecided.length === 0) return;
    const workers = await this.#processes.members().catch(() => []);
    if (workers.length === 0) return; // decide when a worker trains again
    const { maxWorkers = config.training.numLanes, heartbeatTimeoutMs: silenceMs } = config.cluster;
    for (const step of this.#undecided.splice(0))
      for (const fault of decideFaults(seed, step, spec, { workers, maxWorkers, silenceMs }))
        if (!this.#isInterrupted()) await this.#inject(step, fault);
  }

  async #inject(step: number, fault: Fault): Promise<void> {
    const { clock } = this.#init;
    const number = ++this.#numFaults;
    const time = new Date(clock.wallMs()).toISOString();
    const injectedMs = clock.monotonicMs();
    let { workerId } = fault;
    let notInjected: string | null = null;
    try {
      workerId = await this.#act(fault);
      this.#open.push({ number, injectedMs, furthestStep: this.#furthestStep });
    } catch (error) {
      notInjected = toTrainerError(error).message;
    }
    const { fault: name, forMs } = fault;
    const record: InjectedFault = { kind: 'injected', number, time, step, fault: name, workerId, forMs, notInjected };
    const what = `${name}${workerId === null ? '' : ` ${workerId}`}${forMs === 0 ? '' : ` for ${forMs} ms`}`;
    standardError.write(`chaos: after step ${step}: ${what}${notInjected === null ? '' : `: not: ${notInjected}`}\n`);
    await this.#record(record);
  }

  /** @returns the worker that it hit; null: the coordinator */
  async #act({ fault, workerId, forMs }: Fault): Promise<string | null> {
    const processes = this.#processes;
    if (fault === 'join') return processes.join();
    if (fault === 'coordinator-kill') this.#child?.kill();
    if (workerId === null) return null;
    if (fault === 'kill') await processes.signal(workerId, 'SIGKILL');
    if (fault === 'leave') await processes.signal(workerId, 'SIGTERM');
    if (fault === 'stop') await processes.stopFor(workerId, forMs);
    return workerId;
  }

  async #recordRecoveries(committed: readonly number[]): Promise<void> {
    const nowMs = this.#init.clock.monotonicMs();
    for (const fault of this.#open.splice(0)) {
      const { number, injectedMs, furthestStep } = fault;
      const step = committed.find((candidate) => candidate > furthestStep);
      if (step === undefined) this.#open.push(fault);
      else await this.#record({ kind: 'recovered', number, step, costMs: Math.round(nowMs - injectedMs) });
    }
  }

  async #audit(): Promise<number | null> {
    try {
      return (await auditLedger({ runFolder: this.#init.runDir })).numViolations;
    } catch (error) {
      standardError.write(`chaos: the ledger cannot be audited: ${toTrainerError(error).message}\n`);
      return null;
    }
  }

  /** A record that cannot be written waits for the next one: the run goes on. */
  async #record(record: ChaosRecord): Promise<void> {
    this.#records.push(record);
    const path = join(this.#init.runDir, 'chaos.jsonl');
    const lines = this.#records.slice(this.#numWritten).map((waiting) => `${JSON.stringify(waiting)}\n`);
    try {
      await appendFile(path, lines.join(''));
      this.#numWritten = this.#records.length;
    } catch (error) {
      standardError.write(`chaos: ${toStorageError(error, 'append to', path).message}\n`);
    }
  }
}

/** Folder of the run without faults. */
export function undisturbedFolder(runDir: string): string {
  return `${runDir.replace(/\/+$/u, '')}-undisturbed`;
}

/** The last committed step, and the digest of its parameters if they are saved. */
async function finalState(runDir: string): Promise<{ step: number; paramDigest: string | null }> {
  const { state } = await replayJournal(runPaths(runDir).journal);
  const { step, lastCheckpoint } = state;
  return { step, paramDigest: lastCheckpoint?.step === step ? lastCheckpoint.paramDigest : null };
}
