/**
 * One simulated run: a coordinator and its workers in one network, on disks that outlive them, under a seed. Faults of processes (crash,
 * stop, join, restart) are methods of this class or of a process; faults of the network are methods of `network`.
 */
import { Coordinator } from '../../coordinator/coordinator.ts';
import { NO_LOCAL_WORKERS } from '../../coordinator/membership/worker-host.ts';
import type { EpochEnding } from '../../coordinator/end-run.ts';
import type { JournalState } from '../../coordinator/journal/journal-records.ts';
import { resumeFrom, type ResumePoint } from '../../coordinator/resume/resume-point.ts';
import type { StartingPoint } from '../../coordinator/resume/starting-point.ts';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { numericsHash } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { type TrainerError, toTrainerError } from '../../shared/errors.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import { MemoryCheckpoints } from './memory-checkpoints.ts';
import { MemoryDisk } from './memory-disk.ts';
import { MemoryJournal, readMemoryJournal } from './memory-journal.ts';
import { MemoryLedger, type LedgerSession } from './memory-ledger.ts';
import { MemoryLock } from './memory-lock.ts';
import type { ReferenceRun } from './reference-run.ts';
import { RunArenas } from './run-arenas.ts';
import { SimulatedNetwork, type NetworkOptions } from './simulated-network.ts';
import { SimulatedTransport } from './simulated-transport.ts';
import { SimulatedWorker, type SimulatedWorkerInit } from './simulated-worker.ts';
import { ToyEngine } from './toy-engine.ts';
import { VirtualTime } from './virtual-clock.ts';
import { VirtualProcess } from './virtual-process.ts';

type Outcome = 'working' | 'finished' | TrainerError;

interface StartedCoordinator {
  readonly process: VirtualProcess;
  outcome: Outcome;
}

const TOKEN = 'the token of the simulation';
const RUN_ID = 'the simulated run';

export interface SimulationInit {
  readonly seed: number;
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  readonly reference: ReferenceRun;
  readonly network?: Partial<NetworkOptions>;
  /** Called with every log record; without it only errors are created, which is faster. */
  readonly onLog?: (record: LogRecord, process: string) => void;
}

export class Simulation {
  readonly time = new VirtualTime();
  readonly network: SimulatedNetwork;
  readonly ledger: LedgerSession[] = [];
  readonly checkpoints: MemoryCheckpoints;
  readonly #init: SimulationInit;
  readonly #disk: MemoryDisk;
  readonly #lock: MemoryLock;
  #journalLines: string[] = [];
  readonly #workers: SimulatedWorker[] = [];
  readonly #coordinators: StartedCoordinator[] = [];
  #numProcesses = 0;
  readonly #arenas = new RunArenas();
  readonly #abandonedHolders: (readonly string[])[] = [];

  constructor(init: SimulationInit) {
    this.#init = init;
    const { seed, config } = init;
    this.network = new SimulatedNetwork(this.time, seed, init.network);
    this.#disk = new MemoryDisk(this.time, seed);
    this.#lock = new MemoryLock(this.time);
    const { clock } = new VirtualProcess(this.time, 'nobody');
    this.checkpoints = new MemoryCheckpoints(
      this.#disk,
      new ToyEngine({ config: config.model, clock, stepMs: () => 0, applyMs: () => 0 }),
    );
  }

  /** All workers ever started, in that order. */
  get workers(): readonly SimulatedWorker[] {
    return this.#workers;
  }

  /** The process of the last coordinator. */
  get coordinator(): VirtualProcess | undefined {
    return this.#coordinators.at(-1)?.process;
  }

  /** The journal file of the run. A coordinator that was taken over writes to another one. */
  get journalLines(): readonly string[] {
    return this.#journalLines;
  }

  /** World size of the current generation; 0 without one. */
  get worldSize(): number {
    return readMemoryJournal(this.#journalLines).state.generation?.members.length ?? 0;
  }

  /**
   * For each time the run went back to a checkpoint: members of the last generation that were alive and had a later state.
   */
  get abandonedHolders(): readonly (readonly string[])[] {
    return this.#abandonedHolders;
  }

  /** Outcome of the last coordinator. */
  get outcome(): Outcome {
    return this.#coordinators.at(-1)?.outcome ?? 'working';
  }

  /** Every coordinator but the last one has crashed or ended. */
  get areFormerCoordinatorsOver(): boolean {
    return this.#coordinators
      .slice(0, -1)
      .every(({ process, outcome }) => process.state === 'crashed' || outcome !== 'working');
  }

  /** Frees its gradient memories for other runs. Call it after the end of the run. */
  close(): void {
    this.#arenas.reclaim();
  }

  /** Starts a coordinator on the current content of the disks. It listens at the address of the last one. */
  startCoordinator(): void {
    if (this.coordinator !== undefined) this.network.vacate(this.coordinator);
    const process = this.#spawn('coordinator');
    const started: StartedCoordinator = { process, outcome: 'working' };
    this.#coordinators.push(started);
    this.#runCoordinator(process).then(
      () => (started.outcome = 'finished'),
      (error: unknown) => (started.outcome = toTrainerError(error)),
    );
  }

  /** Starts a worker unless one of this name is running: two of one name would replace each other for ever. */
  restartWorker(name: string): void {
    const isRunning = this.#workers.some(
      ({ process, outcome }) => process.name === name && process.state !== 'crashed' && outcome === 'working',
    );
    if (!isRunning) this.startWorker(name);
  }

  startWorker(name: string, mishap?: SimulatedWorkerInit['mishap']): SimulatedWorker {
    const { config, mixture, reference, seed, onLog } = this.#init;
    const process = this.#spawn(name);
    const { listenHost, listenPort } = config.cluster;
    const worker = new SimulatedWorker({
      process,
      transport: new SimulatedTransport(this.network, process),
      coordinatorUrl: `sim://${listenHost}:${listenPort}`,
      token: TOKEN,
      mixture,
      checkpoints: this.checkpoints,
      arenas: this.#arenas.ofWorker(),
      initial: reference.initial,
      worldSize: () => this.worldSize,
      random: new RandomStream([seed, hashName('worker'), this.#numProcesses]),
      ...(mishap === undefined ? {} : { mishap }),
      ...(onLog === undefined ? {} : { onLog: (record: LogRecord) => onLog(record, name) }),
    });
    this.#workers.push(worker);
    void worker.run();
    return worker;
  }

  #spawn(name: string): VirtualProcess {
    this.#numProcesses += 1;
    return new VirtualProcess(this.time, name, 1_000_000 * this.#numProcesses);
  }

  /** Runs one epoch after the other, like coordinator/run.ts. If no worker has the state any more, the next epoch starts from a checkpoint. */
  async #runCoordinator(process: VirtualProcess): Promise<void> {
    let resumeAt: ResumePoint = { kind: 'journal' };
    for (;;) {
      const ending = await this.#runEpoch(process, resumeAt);
      if (ending.kind === 'ended') return;
      ({ resumeAt } = ending);
    }
  }

  async #runEpoch(process: VirtualProcess, resumeAt: ResumePoint): Promise<EpochEnding> {
    const lock = this.#lock.acquire(process);
    try {
      if (lock.isTakenOver) this.#fenceOff();
      return await this.#runLocked(process, resumeAt, lock.lost);
    } finally {
      lock.release();
    }
  }

  /** Like coordinator/resume/open-run.ts: a coordinator that was taken over continues on files that no process reads. */
  #fenceOff(): void {
    this.#journalLines = [...this.#journalLines];
    const newest = this.ledger.pop();
    if (newest !== undefined) this.ledger.push({ ...newest, steps: [...newest.steps] });
  }

  async #runLocked(process: VirtualProcess, resumeAt: ResumePoint, lost: AbortSignal): Promise<EpochEnding> {
    const { config, mixture, onLog } = this.#init;
    const disk = this.#disk;
    const journal = new MemoryJournal({ disk, process, lines: this.#journalLines });
    const { state } = journal;
    const epoch = state.epoch + 1;
    const init = { config, mixture, allowMixtureChange: false };
    const saved = this.#startingPoint();
    const { start, before } = await resumeFrom(resumeAt, saved, state, init);
    if (before === undefined && state.step > saved.step)
      this.#abandonedHolders.push(await this.#holdersBeyond(saved.step, state));
    const { step } = start;
    const ledger = new MemoryLedger({
      disk,
      process,
      sessions: this.ledger,
      epoch,
      startStep: step,
      committed: { epoch: state.epoch, step: state.step },
    });
    await journal.append({
      kind: 'run-opened',
      epoch,
      runId: RUN_ID,
      configHash: numericsHash(config),
      seed: config.seed,
      mixtureHash: mixture.hash,
      step,
      ...(before === undefined ? {} : { goesOn: true as const }),
      ...(start.checkpoint?.step === step ? { fromCheckpoint: start.checkpoint.path } : {}),
    });
    const coordinator = new Coordinator({
      ...{ config, mixture, token: TOKEN, workerHost: NO_LOCAL_WORKERS },
      opening: { runId: RUN_ID, epoch, start, before },
      stores: {
        ...{ journal, ledger, runFolder: '/simulated/run', diskSpace: undefined },
        checkpoints: this.checkpoints.storeOf(process),
      },
      transport: new SimulatedTransport(this.network, process),
      runtime: {
        clock: process.clock,
        log: createLogger(
          onLog === undefined
            ? { level: 'error' }
            : { level: 'debug', onRecord: (record) => onLog(record, 'coordinator') },
        ),
      },
    });
    await coordinator.listen(config.cluster.listenPort);
    return coordinator.run(lost);
  }

  /** Live members of the last generation whose state is later than `step`. */
  async #holdersBeyond(step: number, { generation }: JournalState): Promise<string[]> {
    const { steps } = this.#init.reference;
    const holders: string[] = [];
    for (const worker of this.#workers) {
      const { process, outcome } = worker;
      const isMember = generation?.members.includes(process.name) === true;
      if (!isMember || process.state !== 'running' || outcome !== 'working') continue;
      const digest = await worker.paramDigest();
      const held = steps.find(({ paramDigest }) => paramDigest === digest)?.step ?? 0;
      if (held > step) holders.push(process.name);
    }
    return holders;
  }

  #startingPoint(): StartingPoint {
    const latest = this.checkpoints.published().at(-1);
    if (latest === undefined) return { step: 0, rateChanges: [], notes: [] };
    const { path, run } = latest;
    const { step, cursor, paramDigest, engineFingerprint } = run;
    const checkpoint = { step, path, paramDigest, engineFingerprint };
    return { step, cursor, rateChanges: cursor.rateChanges, checkpoint, notes: [] };
  }
}
