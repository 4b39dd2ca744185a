/**
 * Rates that were changed while a run went on, as the journal and the checkpoints hold them. Pure.
 *
 * Definition: a change holds the whole of what replaces the configuration's rates from a window of the plan on: the rates that override
 * the computed ones, and the denoising ratio. A change gives up what was to change in its window or later. The order of a run follows
 * from its configuration and its changes.
 */
import { z } from 'zod';
import { planCursorSchema } from '../../mixture/plan/plan-cursor.ts';
import type { RunConfig } from '../../shared/config/schema.ts';

const rate = z.number().nonnegative();

/** What a change replaces. */
export const rateSettingsSchema = z.strictObject({
  /** Task → rate in the unit of capped examples, as `mixture.rates`; the other tasks have their computed rates. */
  rates: z.record(z.string(), rate),
  /** R: denoising examples for each supervised one. */
  denoisingRatio: rate,
});
export type RateSettings = z.output<typeof rateSettingsSchema>;

export const rateChangeSchema = rateSettingsSchema.extend({
  /** Window of the plan that begins with these rates. */
  window: z.int().nonnegative(),
  /** The first step that holds a row of that window. */
  firstStep: z.int().positive(),
});
export type RateChange = z.output<typeof rateChangeSchema>;

/** A place in the plan with the changes that hold there or are still to come: what a checkpoint has of the mixture. */
export const runCursorSchema = planCursorSchema.extend({ rateChanges: z.array(rateChangeSchema) });
export type RunCursor = z.output<typeof runCursorSchema>;

/** What the journal says of a place: enough to find it again in the plan; the checkpoints hold the rest. */
export function journalCursor({ fingerprint, window, row }: RunCursor): Record<string, number> {
  return { fingerprint, window, row };
}

/** The changes after one more; what was to change in its window or later is given up. */
export function addChange(changes: readonly RateChange[], change: RateChange): RateChange[] {
  return [...changes.filter(({ window }) => window < change.window), change];
}

/** The settings that hold in a window: of the last change before or in it, else of the configuration. */
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

/** The changes that a plan needs to go on in a window: the one that holds there, and the later ones. */
export function changesFrom(changes: readonly RateChange[], window: number): RateChange[] {
  const holding = changes.findLast((change) => change.window <= window);
  const later = changes.filter((change) => change.window > window);
  return holding === undefined ? later : [holding, ...later];
}
