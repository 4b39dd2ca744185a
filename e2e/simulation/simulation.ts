/**
 * One simulated run: a coordinator and its workers in one network, over disks that outlive them, under a seed. What may be done to it
 * from outside (crash, stop, join, restart) is a method here; what of the network may break, a method of `network`.
 */
import { Coordinator } from '../../coordinator/coordinator.ts';
import type { EpochEnding } from '../../coordinator/epoch-ending.ts';
import type { JournalState } from '../../coordinator/journal-records.ts';
import { goOnFrom, openGeneration } from '../../coordinator/go-on.ts';
import type { StartingPoint } from '../../coordinator/starting-point.ts';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { numericsHash } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { TrainerError } from '../../shared/errors.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import type { Arena, ArenaLayout } from '../../worker/collective/arena.ts';
import { ArenaPool } from '../../worker/collective/arena-pool.ts';
import { MemoryCheckpoints } from './memory-checkpoints.ts';
import { MemoryDisk } from './memory-disk.ts';
import { MemoryJournal } from './memory-journal.ts';
import { MemoryLedger, type LedgerSession } from './memory-ledger.ts';
import type { ReferenceRun } from './reference-run.ts';
import { SimulatedNetwork, type NetworkOptions } from './simulated-network.ts';
import { SimulatedTransport } from './simulated-transport.ts';
import { SimulatedWorker, type SimulatedWorkerInit } from './simulated-worker.ts';
import { ToyEngine } from './toy-engine.ts';
import { VirtualTime } from './virtual-clock.ts';
import { VirtualProcess } from './virtual-process.ts';

/** Memories for all runs of this process: each reserves gigabytes of addresses, and thousands of runs would use them up. */
const ARENAS = new ArenaPool(64);

/** Arenas of one run, those of crashed workers too, which never give them back. */
class UsedArenas extends ArenaPool {
  readonly #used = new Set<Arena>();

  constructor() {
    super(0);
  }

  override take(layout: ArenaLayout): Arena {
    const arena = ARENAS.take(layout);
    this.#used.add(arena);
    return arena;
  }

  override give(arena: Arena): void {
    if (this.#used.delete(arena)) ARENAS.give(arena);
  }

  reclaim(): void {
    for (const arena of [...this.#used]) this.give(arena);
  }
}

const TOKEN = 'the token of the simulation';
const RUN_ID = 'the simulated run';

export interface SimulationInit {
  readonly seed: number;
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  readonly reference: ReferenceRun;
  readonly network?: Partial<NetworkOptions>;
  /** Sees all logs; without it nothing is logged, which is faster. */
  readonly onLog?: (record: LogRecord, process: string) => void;
}

export class Simulation {
  readonly time = new VirtualTime();
  readonly network: SimulatedNetwork;
  readonly journalLines: string[] = [];
  readonly ledger: LedgerSession[] = [];
  readonly checkpoints: MemoryCheckpoints;
  readonly #init: SimulationInit;
  readonly #disk: MemoryDisk;
  readonly #workers: SimulatedWorker[] = [];
  #coordinator: VirtualProcess | undefined;
  #outcome: 'working' | 'finished' | TrainerError = 'working';
  #numProcesses = 0;
  readonly #arenas = new UsedArenas();
  readonly #forgottenHolders: (readonly string[])[] = [];

  constructor(init: SimulationInit) {
    this.#init = init;
    const { seed, config } = init;
    this.network = new SimulatedNetwork(this.time, seed, init.network);
    this.#disk = new MemoryDisk(this.time, seed);
    const { clock } = new VirtualProcess(this.time, 'nobody');
    this.checkpoints = new MemoryCheckpoints(
      this.#disk,
      new ToyEngine({ config: config.model, clock, stepMs: () => 0, applyMs: () => 0 }),
    );
  }

  /** Those that were ever started, in that order. */
  get workers(): readonly SimulatedWorker[] {
    return this.#workers;
  }

  /** The coordinator's process: the last one, where there were several. */
  get coordinator(): VirtualProcess | undefined {
    return this.#coordinator;
  }

  /**
   * Members of the last generation that still lived, with a later state, when the run went back to a checkpoint: one list for each time.
   */
  get forgottenHolders(): readonly (readonly string[])[] {
    return this.#forgottenHolders;
  }

  /** How the last coordinator ended, once it has. */
  get outcome(): 'working' | 'finished' | TrainerError {
    return this.#outcome;
  }

  /** Call it when nothing of it is driven any more: its memory is used again. */
  close(): void {
    this.#arenas.reclaim();
  }

  /** Starts a coordinator on what the disks hold. */
  startCoordinator(): void {
    const process = this.#spawn('coordinator');
    this.#coordinator = process;
    this.#outcome = 'working';
    this.#runCoordinator(process).then(
      () => (this.#outcome = 'finished'),
      (error: unknown) => (this.#outcome = toTrainerError(error)),
    );
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
      arenas: this.#arenas,
      initial: reference.initial,
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

  /** Epoch after epoch, as cli/run-coordinator.ts: one that finds no state any more is followed by one from the newest checkpoint. */
  async #runCoordinator(process: VirtualProcess): Promise<void> {
    let goOnAt: number | 'checkpoint' | undefined;
    for (;;) {
      const ending = await this.#runEpoch(process, goOnAt);
      if (ending.kind === 'ended') return;
      goOnAt = ending.heldStep ?? 'checkpoint';
    }
  }

  async #runEpoch(process: VirtualProcess, goOnAt: number | 'checkpoint' | undefined): Promise<EpochEnding> {
    const { config, mixture, onLog } = this.#init;
    const disk = this.#disk;
    const journal = new MemoryJournal({ disk, process, lines: this.journalLines });
    const { state } = journal;
    const epoch = state.epoch + 1;
    const before = goOnAt === 'checkpoint' ? undefined : openGeneration(state);
    const saved = this.#startingPoint();
    if (before === undefined && state.step > saved.step)
      this.#forgottenHolders.push(await this.#holdersBeyond(saved.step, state));
    const init = { config, mixture, allowMixtureChange: false };
    const start =
      before === undefined || goOnAt === 'checkpoint'
        ? saved
        : await goOnFrom(saved, state, goOnAt ?? state.step, init);
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
      ...{ config, epoch, start, before, mixture, journal, ledger },
      runId: RUN_ID,
      runFolder: '/simulated/run',
      checkpoints: this.checkpoints.storeOf(process),
      token: TOKEN,
      transport: new SimulatedTransport(this.network, process),
      clock: process.clock,
      log: createLogger(
        onLog === undefined
          ? { level: 'error' }
          : { level: 'debug', onRecord: (record) => onLog(record, 'coordinator') },
      ),
    });
    await coordinator.listen(config.cluster.listenPort);
    return coordinator.run(new AbortController().signal);
  }

  /** Live members of the last generation with a state beyond a step. */
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
