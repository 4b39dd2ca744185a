/**
 * Decides which faults follow a committed step: a pure function of seed, step, spec and population. Each fault has its own random stream,
 * so that another rule in a spec does not change the decisions of the others.
 */
import { hashName, RandomStream } from '../../shared/random.ts';
import { FAULTS, type ChaosSpec, type FaultName } from './chaos-spec.ts';

/** A pause shorter than the heartbeat timeout, ms. */
const SHORT_MS = { least: 500, most: 3_000 };
/** Added to the heartbeat timeout for a pause after which the worker is dropped, ms. */
const BEYOND_MS = { least: 500, most: 3_000 };
/** Share of the pauses that are long enough for the worker to be dropped. */
const LONG_SHARE = 0.4;

export interface Population {
  /** Workers that train, sorted. */
  readonly workers: readonly string[];
  /** Largest number of workers: one per lane, or fewer by configuration. */
  readonly maxWorkers: number;
  /** Heartbeat timeout: a worker silent for so long is dropped, ms. */
  readonly silenceMs: number;
}

export interface Fault {
  readonly fault: FaultName;
  /** The worker that it hits; null: the coordinator, or a worker that does not exist yet. */
  readonly workerId: string | null;
  /** Duration; 0 for a fault without one. */
  readonly forMs: number;
}

/**
 * @returns the faults in the order of their injection, without those that have no target or would leave no worker
 */
export function decideFaults(seed: number, step: number, spec: ChaosSpec, population: Population): readonly Fault[] {
  return FAULTS.flatMap((fault) => {
    const random = new RandomStream([seed, hashName('chaos'), step, hashName(fault)]);
    const isDrawn = random.nextFloat() < (spec.probabilities.get(fault) ?? 0);
    const numScheduled = (spec.scheduled.get(step) ?? []).filter((name) => name === fault).length;
    const count = numScheduled + (isDrawn ? 1 : 0);
    return Array.from({ length: count }, () => decideFault(fault, random, population)).filter((one) => one !== null);
  });
}

function decideFault(fault: FaultName, random: RandomStream, population: Population): Fault | null {
  const { workers, maxWorkers, silenceMs } = population;
  if (fault === 'coordinator-kill') return { fault, workerId: null, forMs: 0 };
  if (fault === 'join') return workers.length < maxWorkers ? { fault, workerId: null, forMs: 0 } : null;
  if (workers.length === 0 || (fault === 'leave' && workers.length === 1)) return null;
  const workerId = workers[random.nextBelow(workers.length)]!;
  if (fault !== 'stop') return { fault, workerId, forMs: 0 };
  const isLong = random.nextFloat() < LONG_SHARE;
  const { least, most } = isLong ? BEYOND_MS : SHORT_MS;
  const forMs = Math.round(least + random.nextFloat() * (most - least)) + (isLong ? silenceMs : 0);
  return { fault, workerId, forMs };
}
