/**
 * Changes of rates during training, as the journal and the checkpoints store them. Pure.
 *
 * Definition: a change replaces all rate settings of the configuration from a window of the plan on: the rates that override the computed
 * ones, and the denoising ratio. It cancels earlier changes of its window and later ones. The order of examples follows from the
 * configuration and the changes.
 */
import { z } from 'zod';
import { planCursorSchema } from '../../mixture/plan/plan-cursor.ts';
import type { RunConfig } from '../../shared/config/schema.ts';

const rate = z.number().nonnegative();

/** The settings that a change replaces. */
export const rateSettingsSchema = z.strictObject({
  /** Task → rate in the unit of capped examples, as in `mixture.rates`; other tasks have their computed rates. */
  rates: z.record(z.string(), rate),
  /** R: denoising examples per supervised example. */
  denoisingRatio: rate,
});
export type RateSettings = z.output<typeof rateSettingsSchema>;

export const rateChangeSchema = rateSettingsSchema.extend({
  /** Window of the plan that begins with these rates. */
  window: z.int().nonnegative(),
  /** The first step with a row of that window. */
  firstStep: z.int().positive(),
});
export type RateChange = z.output<typeof rateChangeSchema>;

/** A place in the plan, with the changes that hold there and the later ones. Checkpoints store it. */
export const runCursorSchema = planCursorSchema.extend({ rateChanges: z.array(rateChangeSchema) });
export type RunCursor = z.output<typeof runCursorSchema>;

/** The part of a place that the journal stores: enough to find it again in the plan. */
export function journalCursor({ fingerprint, window, row }: RunCursor): Record<string, number> {
  return { fingerprint, window, row };
}

/** The changes after one more, which cancels those of its window or later. */
export function addChange(changes: readonly RateChange[], change: RateChange): RateChange[] {
  return [...changes.filter(({ window }) => window < change.window), change];
}

/** The settings that hold in a window: of the last change in or before it, else of the configuration. */
export function settingsAt(
  { rates, denoisingRatio }: RunConfig['mixture'],
  changes: readonly RateChange[],
  window: number,
): RateSettings {
  const change = changes.findLast((candidate) => candidate.window <= window);
  return change === undefined
    ? { rates, denoisingRatio }
    : { rates: change.rates, denoisingRatio: change.denoisingRatio };
}

/** The changes that a plan needs to continue in a window: the one that holds there, and the later ones. */
export function changesFrom(changes: readonly RateChange[], window: number): RateChange[] {
  const holding = changes.findLast((change) => change.window <= window);
  const later = changes.filter((change) => change.window > window);
  return holding === undefined ? later : [holding, ...later];
}
