/** The configuration of the mixture plan, from that of the run, its prepared mixture, and the changes of its rates. */
import type { PreparedMixture } from '../../mixture/feed/prepared-mixture.ts';
import type { PlanConfig } from '../../mixture/plan/planner.ts';
import { computeRates, type TaskRate, type TaskSize } from '../../mixture/plan/rates.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import type { RateChange, RateSettings } from './rate-changes.ts';

/** @throws CONFIG_INVALID, NAME_UNKNOWN where rates do not fit the mixture */
export function planConfigOf(
  { seed, featureLengths, mixture }: RunConfig,
  { sizes }: Pick<PreparedMixture, 'sizes'>,
  rateChanges: readonly RateChange[] = [],
): PlanConfig {
  const sharesOf = (settings: RateSettings) => ratesOf(mixture, sizes, settings).map(({ share }) => share);
  return {
    seed,
    inputsLimit: featureLengths.inputs,
    targetsLimit: featureLengths.targets,
    windowDraws: mixture.windowDraws,
    shares: sharesOf(mixture),
    changes: rateChanges.map((change) => ({ window: change.window, shares: sharesOf(change) })),
  };
}

/** Rates and shares of all tasks, by the run's cap and temperature. @throws CONFIG_INVALID, NAME_UNKNOWN */
export function ratesOf(
  { rateCap, temperature }: RunConfig['mixture'],
  sizes: readonly TaskSize[],
  { rates, denoisingRatio }: RateSettings,
): TaskRate[] {
  return computeRates(sizes, { cap: rateCap, temperature, denoisingRatio, overrides: rates });
}
