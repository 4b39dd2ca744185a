/** The workers of `exmix train` on this host, and the engine that they compute with. */
import { availableParallelism } from 'node:os';
import { systemClock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { readEngineFacts } from '../../worker/engine-choice/read-engine-facts.ts';
import { LocalWorkers } from './local-workers.ts';
import { resolveCompute, type ResolvedCompute } from './resolve-compute.ts';

/** Time for the workers to leave by themselves once the run is over, ms. */
const GRACE_MS = 15_000;
/** A worker that ends is started again after these pauses, so often without any progress in between. */
const RESTART = { limit: 5, firstPauseMs: 500, longestPauseMs: 30_000 };

export function createLocalWorkers(count: number): LocalWorkers {
  return new LocalWorkers({ count, clock: systemClock, restart: RESTART, graceMs: GRACE_MS });
}

/** @returns the config with the engine of this host @throws NAME_UNKNOWN, ENGINE_UNAVAILABLE */
export async function resolveOnThisHost(
  config: RunConfig,
  numWorkers: number,
): Promise<{ readonly config: RunConfig; readonly resolved: ResolvedCompute }> {
  const host = { facts: await readEngineFacts(), numWorkers, numCores: availableParallelism() };
  const resolved = resolveCompute(config.compute, host);
  return { config: { ...config, compute: resolved.compute }, resolved };
}
