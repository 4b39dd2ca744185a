/**
 * Deals steps: the next rows of the mixture plan, cut into lanes, with what a worker must know to apply the update.
 * Nothing here depends on the workers, so the deal is the same for every world size.
 */
import { assertInvariant } from '../../shared/errors.ts';
import { learningRate as learningRateOf, type Schedule } from '../../shared/learning-rate.ts';
import { encodeRows, type PlannedRow } from '../../mixture/plan/planned-rows.ts';
import { Planner, type PlanConfig, type PlanCursor, type TaskLengths } from '../../mixture/plan/planner.ts';
import { addChange, changesFrom, type RateChange, type RunCursor } from './rate-changes.ts';
import type { TaskSize } from '../../mixture/plan/rates.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { planConfigOf } from './plan-config.ts';

export interface Deal extends DealHeader {
  /** Encoded rows of each lane. */
  readonly lanes: readonly Uint8Array<ArrayBuffer>[];
  /** Where the plan goes on after this step. */
  readonly cursor: RunCursor;
}

export interface StepDealerInit {
  /** With the shares of `rateChanges`. */
  readonly plan: PlanConfig;
  readonly tasks: readonly TaskLengths[];
  readonly schedule: Schedule;
  readonly rowsPerStep: number;
  readonly numLanes: number;
  /** Updates already applied. */
  readonly step: number;
  readonly cursor?: PlanCursor;
  readonly rateChanges: readonly RateChange[];
}

export class StepDealer {
  readonly #init: StepDealerInit;
  readonly #planner: Planner;
  #step: number;
  #rateChanges: readonly RateChange[];
  /** A change of rates that is being journalled: nothing is dealt meanwhile. */
  #changing: Promise<void> = Promise.resolve();

  /** @throws what the Planner throws: CONFIG_INVALID, MIXTURE_MISMATCH */
  constructor(init: StepDealerInit) {
    this.#init = init;
    this.#planner = new Planner(init.plan, init.tasks, init.cursor);
    this.#step = init.step;
    this.#rateChanges = init.rateChanges;
  }

  /** The last step dealt, or the step training starts from. */
  get step(): number {
    return this.#step;
  }

  /** Where the plan goes on after the last step dealt. */
  get cursor(): RunCursor {
    const cursor = this.#planner.cursor();
    return { ...cursor, rateChanges: changesFrom(this.#rateChanges, cursor.window) };
  }

  /** All changes of rates known, by window. */
  get rateChanges(): readonly RateChange[] {
    return this.#rateChanges;
  }

  /** Where rates can change first: the next window, and the first step that will hold a row of it. */
  get nextChange(): Pick<RateChange, 'window' | 'firstStep'> {
    const { window, rowsBefore } = this.#planner.nextWindow();
    return { window, firstStep: this.#step + 1 + Math.floor(rowsBefore / this.#init.rowsPerStep) };
  }

  /**
   * Changes the rates at `nextChange` once `journalled` has resolved; until then no step is dealt, so that the change is on disk
   * before a row is planned by it.
   * @throws what `journalled` rejects with: then nothing has changed
   */
  async changeRates(change: RateChange, shares: readonly number[], journalled: Promise<void>): Promise<void> {
    const applied = journalled.then(() => {
      this.#planner.changeShares({ window: change.window, shares });
      this.#rateChanges = addChange(this.#rateChanges, change);
    });
    this.#changing = applied.catch(() => undefined); // told to the one who asked
    await applied;
  }

  async deal(): Promise<Deal> {
    // A change may begin while another one, or none, is waited for.
    for (let seen: Promise<void> | undefined; seen !== this.#changing;) {
      seen = this.#changing;
      await seen;
    }
    const { rowsPerStep, numLanes, schedule } = this.#init;
    const rows = this.#planner.nextRows(rowsPerStep);
    const rowsPerLane = rowsPerStep / numLanes;
    const lanes = Array.from({ length: numLanes }, (_, lane) =>
      encodeRows(rows.slice(lane * rowsPerLane, (lane + 1) * rowsPerLane)),
    );
    const targetTokens = this.#countTargets(rows);
    assertInvariant(targetTokens > 0, 'every planned row has a target');
    // Schedules count the updates before this one, as T5 does.
    const learningRate = learningRateOf(schedule, this.#step);
    this.#step += 1;
    return { step: this.#step, learningRate, targetTokens, lanes, cursor: this.cursor };
  }

  #countTargets(rows: readonly PlannedRow[]): number {
    let total = 0;
    for (const row of rows) for (const { task, index } of row) total += this.#init.tasks[task]!.targetsLength(index);
    return total;
  }
}

/** What the coordinator dealt for a step. */
export interface DealHeader {
  readonly step: number;
  readonly learningRate: number;
  /** Target tokens over all lanes: the divisor of the gradient. */
  readonly targetTokens: number;
}

// FOLDED step-dealer.ts
/** The dealer of a run, from its configuration, its prepared mixture and the place where it starts. */

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
