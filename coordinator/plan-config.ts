/** From a run's configuration and its prepared mixture to the plan of rows; the plan's identity is that of both. */
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { PlanConfig } from '../mixture/plan/planner.ts';
import { computeRates } from '../mixture/plan/rates.ts';
import type { RunConfig } from '../shared/config/schema.ts';

/** @throws CONFIG_INVALID, NAME_UNKNOWN for rates that do not fit the mixture */
export function planConfigOf({ seed, featureLengths, mixture }: RunConfig, prepared: PreparedMixture): PlanConfig {
  const rates = computeRates(prepared.sizes, {
    cap: mixture.rateCap,
    temperature: mixture.temperature,
    denoisingRatio: mixture.denoisingRatio,
    overrides: mixture.rates,
  });
  return {
    seed,
    inputsLimit: featureLengths.inputs,
    targetsLimit: featureLengths.targets,
    windowDraws: mixture.windowDraws,
    shares: rates.map(({ share }) => share),
  };
}
