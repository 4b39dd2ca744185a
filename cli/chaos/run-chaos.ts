/**
 * Chaos around a run: the same `exmix train` as a child, disturbed from outside. Watches the journal for commits, decides by the seeded rule
 * (decide-faults.ts) what each is followed by, injects it by signals, and starts a coordinator again that it has killed. Each step is decided once, also where it is committed again from a checkpoint. Nothing is left behind at the end.
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
import { EXIT_INTERRUPTED, EXIT_RUN_FAILED } from '../exit-codes.ts';
import { formatChaosReport, type ChaosRecord, type InjectedFault } from './chaos-report.ts';
import type { ChaosSpec } from './chaos-spec.ts';
import { childCommand } from './child-command.ts';
import { CommitWatch } from './commit-watch.ts';
import { decideFaults, type Fault } from './decide-faults.ts';
import { RunProcesses } from './run-processes.ts';
import { TrainProcess, type TrainEnd } from './train-process.ts';

/** Between two looks at the journal, ms. */
const LOOK_EVERY_MS = 50;
/** From the death of a coordinator to the start of the next one, ms. */
const RESTART_PAUSE_MS = 1_000;
/** Other bits than those of the undisturbed run, or a ledger that is not clean. */
const EXIT_FOUND = 1;

export interface ChaosInit {
  /** Of exmix, from `train` on. */
  readonly argv: readonly string[];
  readonly runDir: string;
  /** Of the run. */
  readonly config: RunConfig;
  readonly spec: ChaosSpec;
  readonly seed: number;
  /** Train the same run undisturbed afterwards, and compare. */
  readonly verify: boolean;
  readonly clock: Clock;
}

/** @returns the exit status: that of the run; 1 where bits or ledger are not as they must be */
export async function runChaos(init: ChaosInit): Promise<number> {
  const chaos = new ChaosRun(init);
  const interrupt = (name: NodeJS.Signals): void => chaos.interrupt(name);
  process.on('SIGINT', interrupt).on('SIGTERM', interrupt);
  try {
    return await chaos.run();
  } finally {
    process.off('SIGINT', interrupt).off('SIGTERM', interrupt);
  }
}

class ChaosRun {
  readonly #init: ChaosInit;
  readonly #processes: RunProcesses;
  readonly #watch: CommitWatch;
  readonly #interrupted = new AbortController();
  #child: TrainProcess | undefined;
  readonly #records: ChaosRecord[] = [];
  /** Not followed by a new step yet, with time and furthest step of their injection. */
  #open: { readonly number: number; readonly injectedMs: number; readonly furthestStep: number }[] = [];
  #numFaults = 0;
  /** The highest step that was seen to be committed. */
  #furthestStep = 0;
  /** Committed and not decided yet. */
  #undecided: number[] = [];

  constructor(init: ChaosInit) {
    this.#init = init;
    this.#processes = new RunProcesses(init);
    this.#watch = new CommitWatch(runPaths(init.runDir).journal);
  }

  /** The first signal lets the run end in order, the next one at once. */
  interrupt(name: NodeJS.Signals): void {
    this.#interrupted.abort();
    this.#processes.letGo();
    this.#child?.signal(name);
  }

  #isInterrupted(): boolean {
    return this.#interrupted.signal.aborted;
  }

  async run(): Promise<number> {
    const { argv, runDir, verify } = this.#init;
    let end: TrainEnd | undefined;
    try {
      this.#furthestStep = Math.max(0, ...(await this.#watch.look()));
      end = await this.#disturb();
    } finally {
      await this.#processes.end();
    }
    await this.#noteRecoveries(await this.#watch.look());
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
    await this.#note({ kind: 'ended', exitStatus, step, paramDigest, undisturbedDigest, numViolations });
    process.stdout.write(formatChaosReport(this.#records));
    if (this.#isInterrupted()) return EXIT_INTERRUPTED;
    if (exitStatus !== 0) return exitStatus ?? EXIT_RUN_FAILED;
    return (verify && undisturbedDigest !== paramDigest) || numViolations !== 0 ? EXIT_FOUND : 0;
  }

  /** @returns how the run ended; undefined where it was called off between two coordinators */
  async #disturb(): Promise<TrainEnd | undefined> {
    const { argv, runDir, clock } = this.#init;
    const { signal } = this.#interrupted;
    while (!this.#isInterrupted()) {
      const child = new TrainProcess(childCommand(argv, runDir));
      this.#child = child;
      while (child.isRunning) {
        if (!this.#isInterrupted()) await this.#look();
        await waitAtMost(child.ended, LOOK_EVERY_MS, clock);
      }
      const end = await child.ended;
      if (!end.isKilled) return end;
      await clock.sleep(RESTART_PAUSE_MS, signal).catch(() => undefined);
    }
    return undefined;
  }

  async #look(): Promise<void> {
    const { config, spec, seed } = this.#init;
    const committed = await this.#watch.look();
    await this.#noteRecoveries(committed);
    for (const step of committed) {
      if (step > this.#furthestStep && step < config.training.steps) this.#undecided.push(step);
      this.#furthestStep = Math.max(this.#furthestStep, step);
    }
    if (this.#undecided.length === 0) return;
    const workers = await this.#processes.members().catch(() => []);
    if (workers.length === 0) return; // decided when somebody trains again
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
    process.stderr.write(`chaos: after step ${step}: ${what}${notInjected === null ? '' : `: not: ${notInjected}`}\n`);
    await this.#note(record);
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

  async #noteRecoveries(committed: readonly number[]): Promise<void> {
    const nowMs = this.#init.clock.monotonicMs();
    for (const fault of this.#open.splice(0)) {
      const { number, injectedMs, furthestStep } = fault;
      const step = committed.find((candidate) => candidate > furthestStep);
      if (step === undefined) this.#open.push(fault);
      else await this.#note({ kind: 'recovered', number, step, costMs: Math.round(nowMs - injectedMs) });
    }
  }

  async #audit(): Promise<number | null> {
    try {
      return (await auditLedger({ runFolder: this.#init.runDir })).numViolations;
    } catch (error) {
      process.stderr.write(`chaos: the ledger cannot be audited: ${toTrainerError(error).message}\n`);
      return null;
    }
  }

  /** @throws DISK_FULL, PATH_UNUSABLE */
  async #note(record: ChaosRecord): Promise<void> {
    this.#records.push(record);
    const path = join(this.#init.runDir, 'chaos.jsonl');
    try {
      await appendFile(path, `${JSON.stringify(record)}\n`);
    } catch (error) {
      throw toStorageError(error, 'append to', path);
    }
  }
}

/** Where the run that is compared with goes. */
export function undisturbedFolder(runDir: string): string {
  return `${runDir.replace(/\/+$/u, '')}-undisturbed`;
}

/** The last committed step, and the parameters after it where they are saved. */
async function finalState(runDir: string): Promise<{ step: number; paramDigest: string | null }> {
  const { state } = await replayJournal(runPaths(runDir).journal);
  const { step, lastCheckpoint } = state;
  return { step, paramDigest: lastCheckpoint?.step === step ? lastCheckpoint.paramDigest : null };
}
