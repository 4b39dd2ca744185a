/**
 * Resolves a run's compute settings on this host once, before `exmix train` writes the run folder. Engine and thread count are fixed
 * from then on. So a run that resumes with another number of workers or after an engine was installed computes the same bits. Pure.
 */
import type { RunConfig } from '../../shared/config/schema.ts';
import { chooseEngine, type EngineFacts } from '../../worker/engine-choice/choose-engine.ts';

type Compute = RunConfig['compute'];

export interface ResolvedCompute {
  readonly compute: Compute;
  /** For the log: engine, device, why they were chosen, and how to make the run faster. */
  readonly reason: string;
  /** Warnings, without those that every worker logs itself. */
  readonly notes: readonly string[];
}

export interface LocalHost {
  readonly facts: EngineFacts;
  readonly numWorkers: number;
  /** Cores that this process may use. */
  readonly numCores: number;
}

/** @throws NAME_UNKNOWN; ENGINE_UNAVAILABLE, as every worker would */
export function resolveCompute(compute: Compute, { facts, numWorkers, numCores }: LocalHost): ResolvedCompute {
  const { device } = compute;
  const choice = chooseEngine({ name: compute.engine, device }, facts);
  const loggedByWorkers = new Set(chooseEngine({ name: choice.engine, device }, facts).notes);
  const share = Math.max(1, Math.floor(numCores / numWorkers));
  const threads = compute.threads === 0 ? share : compute.threads;
  const used = numWorkers * (choice.engine === 'native' ? threads : 1);
  const shown = choice.engine === 'native' ? `; ${threads} thread${threads === 1 ? '' : 's'} a worker` : '';
  const idle = choice.device === 'cpu' && used < numCores ? `; ${idleCores(choice.engine, used, numCores, share)}` : '';
  return {
    compute: { ...compute, engine: choice.engine, threads },
    reason: choice.reason + shown + idle,
    notes: choice.notes.filter((note) => !loggedByWorkers.has(note)),
  };
}

function idleCores(engine: string, used: number, numCores: number, share: number): string {
  const idle = `${used} of ${numCores} cores compute`;
  if (engine !== 'native' || share === 1)
    return `${idle}: --workers ${numCores} would use all (the bits stay the same)`;
  return `${idle}: --workers ${numCores} would use all (the bits stay the same), or --set compute.threads=${share} (other bits)`;
}
