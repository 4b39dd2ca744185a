/**
 * Runs one schedule of faults on a simulated run to its end. A launcher restarts ended workers, as LocalWorkers and an operator do, so
 * every run must reach its last step.
 */
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { toTrainerError, type TrainerError } from '../../shared/errors.ts';
import type { LogRecord } from '../../shared/logger.ts';
import { injectFaults, type Injection } from './inject-faults.ts';
import { findViolations } from './invariants.ts';
import { parseMemoryJournal } from './memory-journal.ts';
import type { ReferenceRun } from './reference-run.ts';
import { isCorrupting, type FaultKind, type Schedule } from './schedule.ts';
import { Simulation } from './simulation.ts';
import type { SimulatedWorkerInit } from './simulated-worker.ts';

/** From the end of a process to its restart, ms. */
const RESTART_AFTER_MS = 500;
const MAX_EVENTS = 200_000;
/** Limit of virtual time; without faults a run takes less than a second. */
const MAX_MS = 600_000;

/** Faults that can make a worker unreachable for too long, or its state untrusted. */
const HIDING: readonly FaultKind[] = ['stop-worker', 'half-open', 'partition', 'flip-state', 'wrong-digest'];

export interface RunScheduleInit {
  readonly config: RunConfig;
  readonly mixture: PreparedMixture;
  readonly reference: ReferenceRun;
  readonly numWorkers: number;
  /** Makes calls of the engine of worker w1 fail. */
  readonly mishap?: SimulatedWorkerInit['mishap'];
  readonly onLog?: (record: LogRecord, process: string) => void;
}

export interface ScheduleOutcome {
  readonly simulation: Simulation;
  readonly injection: Injection;
  /** `finished`, or the error that ended the run. */
  readonly ended: 'finished' | TrainerError;
  /** Broken rules, one sentence each. */
  readonly violations: readonly string[];
}

export async function runSchedule(schedule: Schedule, init: RunScheduleInit): Promise<ScheduleOutcome> {
  const { mixture, reference, numWorkers, mishap, onLog } = init;
  const config = isCorrupting(schedule) ? proving(init.config) : init.config;
  const simulation = new Simulation({
    ...{ seed: schedule.seed, config, mixture, reference },
    ...(onLog === undefined ? {} : { onLog }),
  });
  const { time } = simulation;
  simulation.startCoordinator();
  for (let i = 0; i < numWorkers; i++) simulation.startWorker(`w${i}`, i === 1 ? mishap : undefined);
  const injection = injectFaults(simulation, schedule);
  const launcher = new Launcher(simulation);
  const isOver = (): boolean => {
    launcher.restartEnded();
    return simulation.outcome !== 'working' && injection.numPending === 0 && simulation.areFormerCoordinatorsOver;
  };
  let ended: ScheduleOutcome['ended'];
  try {
    await time.run(isOver, { maxEvents: MAX_EVENTS, maxMs: MAX_MS });
    ended = simulation.outcome as ScheduleOutcome['ended'];
  } catch (error) {
    ended = toTrainerError(error); // the run did not end
  }
  const finals = await readFinals(simulation);
  const records = parseMemoryJournal(simulation.journalLines);
  const checkpoints = simulation.checkpoints.published().map(({ run }) => run);
  const isReachable = schedule.faults.every(({ kind }) => !HIDING.includes(kind));
  const abandoned = simulation.abandonedHolders
    .filter((names) => isReachable && names.length > 0)
    .map((names) => `the run went back to a checkpoint though ${names.join(', ')} had a later state`);
  const violations = findViolations(
    {
      ...{ records, sessions: simulation.ledger, checkpoints, finals },
      ...(ended === 'finished' ? { finishedAt: config.training.steps } : {}),
    },
    reference,
  );
  simulation.close();
  return { simulation, injection, ended, violations: [...abandoned, ...violations] };
}

/** Proves the state after each step. Otherwise gradients could be computed from a wrong state before it is detected. */
function proving(config: RunConfig): RunConfig {
  return { ...config, training: { ...config.training, proveEverySteps: 1 } };
}

/** Restarts workers that end before the run has finished. */
class Launcher {
  readonly #simulation: Simulation;
  readonly #restarted = new Set<object>();

  constructor(simulation: Simulation) {
    this.#simulation = simulation;
  }

  restartEnded(): void {
    const { workers, time } = this.#simulation;
    if (this.#simulation.outcome === 'finished') return;
    for (const worker of workers) {
      const { process, outcome } = worker;
      const hasEnded = process.state === 'crashed' || outcome !== 'working';
      if (!hasEnded || this.#restarted.has(worker)) continue;
      this.#restarted.add(worker);
      time.schedule(RESTART_AFTER_MS, `${process.name} is restarted`, () => {
        if (this.#simulation.outcome !== 'finished') this.#simulation.restartWorker(process.name);
      });
    }
  }
}

/** Workers that ended in order, with the digest of their parameters. */
async function readFinals(simulation: Simulation): Promise<{ workerId: string; paramDigest: string }[]> {
  const finals = [];
  for (const worker of simulation.workers) {
    const paramDigest = worker.outcome === 'finished' ? await worker.paramDigest() : undefined;
    if (paramDigest !== undefined) finals.push({ workerId: worker.process.name, paramDigest });
  }
  return finals;
}
