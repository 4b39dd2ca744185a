/**
 * One simulated run: a coordinator and its workers in one network, over disks that outlive them, under a seed. What may be done to it
 * from outside (crash, stop, join, restart) is a method here; what of the network may break, a method of `network`.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Coordinator } from '../../coordinator/coordinator.ts';
import type { Journal } from '../../coordinator/journal.ts';
import type { StartingPoint } from '../../coordinator/starting-point.ts';
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import { numericsHash } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { TrainerError } from '../../shared/errors.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { createLogger, type LogRecord } from '../../shared/logger.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
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

const MEMORY = '/dev/shm';
const TOKEN = 'the token of the simulation';

export interface SimulationInit {
  readonly seed: number;
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  readonly reference: ReferenceRun;
  readonly network?: Partial<NetworkOptions>;
  /** Sees the coordinator's log; without it nothing is logged, which is faster. */
  readonly onLog?: (record: LogRecord) => void;
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
  /** Saver and prune work on a real folder; what it holds is only names. Memory spares the fsync of a disk. */
  readonly #checkpointsFolder = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'exmix-simulation-'));

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

  /** How the last coordinator ended, once it has. */
  get outcome(): 'working' | 'finished' | TrainerError {
    return this.#outcome;
  }

  /** Nothing of it is used any more. */
  close(): void {
    rmSync(this.#checkpointsFolder, { recursive: true });
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
    const { config, mixture, reference, seed } = this.#init;
    const process = this.#spawn(name);
    const { listenHost, listenPort } = config.cluster;
    const worker = new SimulatedWorker({
      process,
      transport: new SimulatedTransport(this.network, process),
      coordinatorUrl: `sim://${listenHost}:${listenPort}`,
      token: TOKEN,
      mixture,
      checkpoints: this.checkpoints,
      initial: reference.initial,
      random: new RandomStream([seed, hashName('worker'), this.#numProcesses]),
      ...(mishap === undefined ? {} : { mishap }),
    });
    this.#workers.push(worker);
    void worker.run();
    return worker;
  }

  #spawn(name: string): VirtualProcess {
    this.#numProcesses += 1;
    return new VirtualProcess(this.time, name, 1_000_000 * this.#numProcesses);
  }

  async #runCoordinator(process: VirtualProcess): Promise<void> {
    const { config, mixture, onLog } = this.#init;
    const disk = this.#disk;
    const journal = new MemoryJournal({ disk, process, lines: this.journalLines });
    const { state } = journal;
    const epoch = state.epoch + 1;
    const start = this.#startingPoint();
    const ledger = new MemoryLedger({
      disk,
      process,
      sessions: this.ledger,
      epoch,
      startStep: start.step,
      committed: { epoch: state.epoch, step: state.step },
    });
    await journal.append({
      kind: 'run-opened',
      epoch,
      configHash: numericsHash(config),
      seed: config.seed,
      mixtureHash: mixture.hash,
      step: start.step,
      ...(start.checkpoint === undefined ? {} : { fromCheckpoint: start.checkpoint.path }),
    });
    const coordinator = new Coordinator({
      config,
      epoch,
      start,
      mixture,
      checkpointsFolder: this.#checkpointsFolder,
      journal: journal as unknown as Journal, // of which it uses `append` and `state`
      ledger,
      token: TOKEN,
      transport: new SimulatedTransport(this.network, process),
      clock: process.clock,
      log: createLogger({ level: 'error', ...(onLog === undefined ? {} : { level: 'info', onRecord: onLog }) }),
      publish: (written) => this.checkpoints.publish(process, written),
    });
    await coordinator.listen();
    await coordinator.run(new AbortController().signal);
  }

  #startingPoint(): StartingPoint {
    const latest = this.checkpoints.published().at(-1);
    if (latest === undefined) return { step: 0, rateChanges: [], notes: [] };
    const { path, run } = latest;
    const { step, cursor, paramDigest, engineFingerprint } = run;
    const checkpoint = { path, paramDigest, engineFingerprint };
    return { step, cursor, rateChanges: cursor.rateChanges, checkpoint, notes: [] };
  }
}
