/** The report of `exmix mixture show`: planned and actual shares, passes and losses of all tasks. Pure. */
import { z } from 'zod';
import { locateTasks } from '../../mixture/plan/plan-cursor.ts';
import { rateChangeSchema, type RunCursor } from '../deal/rate-changes.ts';

/** Steps over which losses can be averaged at most. */
export const MAX_STEPS = 1000;

/** Of one committed step, by task name: mean loss per target token (nats) and target tokens. */
export interface StepLosses {
  readonly step: number;
  readonly taskLoss: Readonly<Record<string, number>>;
  readonly taskTokens: Readonly<Record<string, number>>;
}

export const mixtureReportSchema = z.object({
  /** Updates applied. */
  step: z.int(),
  /** Window of the next row of the plan. */
  window: z.int(),
  /** Examples drawn so far. */
  draws: z.int(),
  /** Steps over which losses are averaged; null where there is none. */
  losses: z.object({ firstStep: z.int(), lastStep: z.int(), numSteps: z.int() }).nullable(),
  /** Changes of rates, by window; those above `window` take effect later. */
  rateChanges: z.array(rateChangeSchema),
  tasks: z.array(
    z.object({
      name: z.string(),
      numExamples: z.int(),
      /** Share of all draws in the current window. */
      plannedShare: z.number(),
      /** Share of all draws so far. */
      actualShare: z.number(),
      draws: z.int(),
      /** Draws divided by examples. */
      passes: z.number(),
      /** Mean cross-entropy per target token over the steps of `losses`, nats; null for a task without a target in them. */
      loss: z.number().nullable(),
      /** Target tokens in the steps of `losses`. */
      targetTokens: z.int(),
    }),
  ),
});
export type MixtureReport = z.output<typeof mixtureReportSchema>;

/**
 * @param step updates applied
 * @param cursor place of the plan after that step
 * @param steps the steps to average losses over, by rising number
 * @throws CHECKPOINT_CORRUPT for a cursor whose parts do not fit together
 */
export function reportMixture(step: number, cursor: RunCursor, steps: readonly StepLosses[]): MixtureReport {
  const places = locateTasks(cursor);
  const draws = places.reduce((sum, { numGiven }) => sum + numGiven, 0);
  const [first, last] = [steps[0], steps.at(-1)];
  return {
    step,
    window: cursor.window,
    draws,
    losses:
      first === undefined || last === undefined
        ? null
        : { firstStep: first.step, lastStep: last.step, numSteps: steps.length },
    rateChanges: cursor.rateChanges,
    tasks: places.map(({ name, numExamples, share, numGiven }) => ({
      name,
      numExamples,
      plannedShare: share,
      actualShare: draws === 0 ? 0 : numGiven / draws,
      draws: numGiven,
      passes: numExamples === 0 ? 0 : numGiven / numExamples,
      ...meanLoss(name, steps),
    })),
  };
}

function meanLoss(name: string, steps: readonly StepLosses[]): { loss: number | null; targetTokens: number } {
  let sum = 0;
  let targetTokens = 0;
  for (const { taskLoss, taskTokens } of steps) {
    const tokens = taskTokens[name] ?? 0;
    if (tokens === 0) continue;
    sum += taskLoss[name]! * tokens;
    targetTokens += tokens;
  }
  return { loss: targetTokens === 0 ? null : sum / targetTokens, targetTokens };
}
