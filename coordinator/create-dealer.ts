/** The dealer of a run, from its configuration, its prepared mixture and the place where it starts. */
import type { PlanCursor, TaskLengths } from '../mixture/plan/planner.ts';
import type { TaskSize } from '../mixture/plan/rates.ts';
import type { RunConfig } from '../shared/config/schema.ts';
import { planConfigOf } from './plan-config.ts';
import { StepDealer } from './step-dealer.ts';
import type { RateChange } from './steering-changes.ts';

export interface DealerInit {
  readonly config: RunConfig;
  readonly mixture: { readonly sizes: readonly TaskSize[]; readonly tasks: readonly TaskLengths[] };
}

/** The place: updates already applied, the plan after them (undefined: its beginning), the changes of rates known there. */
export interface DealerStart {
  readonly step: number;
  readonly cursor?: PlanCursor | undefined;
  readonly rateChanges: readonly RateChange[];
}

/** Where no update has been applied and nobody has changed a rate. */
export const BEGINNING: DealerStart = { step: 0, rateChanges: [] };

/** @throws CONFIG_INVALID, NAME_UNKNOWN, MIXTURE_MISMATCH for a plan that cannot be gone on with */
export function createDealer({ config, mixture }: DealerInit, { step, cursor, rateChanges }: DealerStart): StepDealer {
  const { rowsPerStep, numLanes } = config.training;
  return new StepDealer({
    plan: planConfigOf(config, mixture, rateChanges),
    rateChanges,
    tasks: mixture.tasks,
    schedule: config.schedule,
    ...{ rowsPerStep, numLanes, step },
    ...(cursor === undefined ? {} : { cursor }),
  });
}
