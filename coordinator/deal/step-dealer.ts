/**
 * Deals steps: the next rows of the mixture plan, cut into lanes, with the numbers of the update.
 * Deals do not depend on the workers, so they are the same for every world size.
 */
import { assertInvariant } from '../../shared/errors.ts';
import { learningRate as learningRateOf, type Schedule } from '../../shared/learning-rate.ts';
import { encodeRows, type PlannedRow } from '../../mixture/plan/planned-rows.ts';
import { Planner, type PlanConfig, type PlanCursor, type TaskLengths } from '../../mixture/plan/planner.ts';
import { addChange, changesFrom, type RateChange, type RunCursor } from './rate-changes.ts';
import type { TaskSize } from '../../mixture/plan/rates.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { planConfigOf } from './plan-config.ts';

/** The numbers of a deal, without its rows. */
export interface DealHeader {
  readonly step: number;
  readonly learningRate: number;
  /** Target tokens over all lanes: the divisor of the gradient. */
  readonly targetTokens: number;
}

/** What the coordinator deals for one step. Each rank is sent its lanes. */
export interface Deal extends DealHeader {
  /** Encoded rows of each lane. */
  readonly lanes: readonly Uint8Array<ArrayBuffer>[];
  /** Place of the plan after this step. */
  readonly cursor: RunCursor;
}

export interface StepDealerInit {
  /** With the shares after `rateChanges`. */
  readonly plan: PlanConfig;
  readonly tasks: readonly TaskLengths[];
  readonly schedule: Schedule;
  readonly rowsPerStep: number;
  readonly numLanes: number;
  /** Updates already applied. */
  readonly step: number;
  /** Absent: the beginning of the plan. */
  readonly cursor?: PlanCursor;
  readonly rateChanges: readonly RateChange[];
}

export class StepDealer {
  readonly #init: StepDealerInit;
  readonly #planner: Planner;
  #step: number;
  #rateChanges: readonly RateChange[];
  /** Resolves when no change of rates is being journalled; until then no step is dealt. */
  #changing: Promise<void> = Promise.resolve();

  /** @throws CONFIG_INVALID, MIXTURE_MISMATCH of the Planner */
  constructor(init: StepDealerInit) {
    this.#init = init;
    this.#planner = new Planner(init.plan, init.tasks, init.cursor);
    this.#step = init.step;
    this.#rateChanges = init.rateChanges;
  }

  /** The last step dealt, or the step that training starts from. */
  get step(): number {
    return this.#step;
  }

  /** Place of the plan after the last step dealt. */
  get cursor(): RunCursor {
    const cursor = this.#planner.cursor();
    return { ...cursor, rateChanges: changesFrom(this.#rateChanges, cursor.window) };
  }

  /** By window. */
  get rateChanges(): readonly RateChange[] {
    return this.#rateChanges;
  }

  /** Earliest change of rates: the next window, and the first step with a row of it. */
  get nextChange(): Pick<RateChange, 'window' | 'firstStep'> {
    const { window, rowsBefore } = this.#planner.nextWindow();
    return { window, firstStep: this.#step + 1 + Math.floor(rowsBefore / this.#init.rowsPerStep) };
  }

  /**
   * Changes the rates at `nextChange` once `journalled` has resolved. Until then no step is dealt: the change is on disk before a row is
   * planned by it.
   * @throws the error of `journalled`: then nothing has changed
   */
  async changeRates(change: RateChange, shares: readonly number[], journalled: Promise<void>): Promise<void> {
    const applied = journalled.then(() => {
      this.#planner.changeShares({ window: change.window, shares });
      this.#rateChanges = addChange(this.#rateChanges, change);
    });
    this.#changing = applied.catch(() => undefined); // the caller gets the error
    await applied;
  }

  async deal(): Promise<Deal> {
    // Another change may begin during the wait for the first one.
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
    // Schedules count the updates before this one, as in T5.
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

export interface DealerInit {
  readonly config: RunConfig;
  readonly mixture: { readonly sizes: readonly TaskSize[]; readonly tasks: readonly TaskLengths[] };
}

/** Where a dealer starts. */
export interface DealerStart {
  /** Updates already applied. */
  readonly step: number;
  /** Place of the plan after them; undefined: its beginning. */
  readonly cursor?: PlanCursor | undefined;
  readonly rateChanges: readonly RateChange[];
}

/** The start of a new run. */
export const BEGINNING: DealerStart = { step: 0, rateChanges: [] };

/** The dealer of a run. @throws CONFIG_INVALID, NAME_UNKNOWN, MIXTURE_MISMATCH where the plan cannot be continued */
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
