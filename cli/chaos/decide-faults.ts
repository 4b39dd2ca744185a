/**
 * Which faults follow a committed step: a pure rule of seed, step, spec and who is there. Each fault has a random stream of its own, so
 * that one more rule in a spec does not change what the others do.
 */
import { hashName, RandomStream } from '../../shared/random.ts';
import { FAULTS, type ChaosSpec, type FaultName } from './chaos-spec.ts';

/** A pause that the run need not notice, ms. */
const SHORT_MS = { least: 500, most: 3_000 };
/** Added to the time after which a silent worker is dropped, ms. */
const BEYOND_MS = { least: 500, most: 3_000 };
/** Share of the pauses that are long enough for the worker to be dropped. */
const LONG_SHARE = 0.4;

export interface Population {
  /** Workers that train, sorted. */
  readonly workers: readonly string[];
  /** The most that can train: one a lane, or fewer by configuration. */
  readonly maxWorkers: number;
  /** A worker silent for so long is dropped, ms. */
  readonly silenceMs: number;
}

export interface Fault {
  readonly fault: FaultName;
  /** Whom it hits; null: the coordinator, or a worker that is not there yet. */
  readonly workerId: string | null;
  /** How long it lasts; 0 for those that are done at once. */
  readonly forMs: number;
}

/**
 * @returns in the order in which they are to be injected; without those that would leave nobody, or hit nobody
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
