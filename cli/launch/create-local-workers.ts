/** Creates the workers of `exmix train` on this host, and chooses their engine. */
import { availableParallelism } from 'node:os';
import { systemClock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { readEngineFacts } from '../../worker/engine-choice/read-engine-facts.ts';
import { LocalWorkers } from './local-workers.ts';
import { resolveCompute, type ResolvedCompute } from './resolve-compute.ts';

/** After the end of the run, workers have so long to exit without a signal, ms. */
const GRACE_MS = 15_000;
/** Pauses before a worker is restarted, and how often it is restarted without progress. */
const RESTART = { limit: 5, firstPauseMs: 500, longestPauseMs: 30_000 };

export function createLocalWorkers(count: number): LocalWorkers {
  return new LocalWorkers({ count, clock: systemClock, restart: RESTART, graceMs: GRACE_MS });
}

/** @returns the config with the engine of this host @throws NAME_UNKNOWN, ENGINE_UNAVAILABLE */
export async function resolveOnThisHost<Config extends Pick<RunConfig, 'compute'>>(
  config: Config,
  numWorkers: number,
): Promise<{ readonly config: Config; readonly resolved: ResolvedCompute }> {
  const host = { facts: await readEngineFacts(), numWorkers, numCores: availableParallelism() };
  const resolved = resolveCompute(config.compute, host);
  return { config: { ...config, compute: resolved.compute }, resolved };
}
