/**
 * What `exmix train` makes of a run's compute settings on this host, once, before the run folder is written: from then on engine and
 * thread count are fixed, so that a run resumed with another number of workers, or after an engine was installed, keeps its bits. Pure.
 */
import type { RunConfig } from '../../shared/config/schema.ts';
import { chooseEngine, type EngineFacts } from '../../worker/engine-choice/choose-engine.ts';

type Compute = RunConfig['compute'];

export interface SettledCompute {
  readonly compute: Compute;
  /** For the log: which engine, on what, why, and what would make it faster. */
  readonly reason: string;
  /** Warnings; what every worker finds for itself is left out. */
  readonly notes: readonly string[];
}

export interface LocalHost {
  readonly facts: EngineFacts;
  readonly numWorkers: number;
  /** That this process may use. */
  readonly numCores: number;
}

/** @throws NAME_UNKNOWN; ENGINE_UNAVAILABLE as every worker would */
export function settleCompute(compute: Compute, { facts, numWorkers, numCores }: LocalHost): SettledCompute {
  const { device } = compute;
  const choice = chooseEngine({ name: compute.engine, device }, facts);
  const byWorkers = new Set(chooseEngine({ name: choice.engine, device }, facts).notes);
  const share = Math.max(1, Math.floor(numCores / numWorkers));
  const threads = compute.threads === 0 ? share : compute.threads;
  const used = numWorkers * (choice.engine === 'native' ? threads : 1);
  const shown = choice.engine === 'native' ? `; ${threads} thread${threads === 1 ? '' : 's'} a worker` : '';
  const idle = choice.device === 'cpu' && used < numCores ? `; ${idleCores(choice.engine, used, numCores, share)}` : '';
  return {
    compute: { ...compute, engine: choice.engine, threads },
    reason: choice.reason + shown + idle,
    notes: choice.notes.filter((note) => !byWorkers.has(note)),
  };
}

function idleCores(engine: string, used: number, numCores: number, share: number): string {
  const idle = `${used} of ${numCores} cores compute`;
  if (engine !== 'native' || share === 1)
    return `${idle}: --workers ${numCores} would use all (the bits stay the same)`;
  return `${idle}: --workers ${numCores} would use all (the bits stay the same), or --set compute.threads=${share} (other bits)`;
}
