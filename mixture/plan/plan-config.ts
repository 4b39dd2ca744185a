/**
 * Everything that decides the order of the rows of a run: seed, limits, window, shares, tasks.
 *
 * Definition: a change of shares takes effect at the start of a window and holds until the next change. If two plans
 * agree in all of this from a window on, they agree in every row from there.
 */
import { TrainerError } from '../../shared/errors.ts';
import { hashName } from '../../shared/random.ts';

export interface TaskLengths {
  readonly name: string;
  readonly numExamples: number;
  /** Tokens of an example with EOS, ≥ 1 and ≤ the limit. For denoising, after corruption. */
  inputsLength(index: number): number;
  targetsLength(index: number): number;
}

/** Other shares from a window on. */
export interface SharesChange {
  readonly window: number;
  /** As in PlanConfig. */
  readonly shares: readonly number[];
}

export interface PlanConfig {
  readonly seed: number;
  /** Tokens that fit into a row, EOS included. */
  readonly inputsLimit: number;
  readonly targetsLimit: number;
  /** Draws that are planned and packed together. More fill rows better, but a change of shares waits longer. */
  readonly windowDraws: number;
  /** Share of all draws of each task, in the order of the tasks. They add up to 1. */
  readonly shares: readonly number[];
  /** In order of windows. In each of these windows the schedule starts again, with all credits 0 and these shares. */
  readonly changes?: readonly SharesChange[];
}

/** The shares of a window. */
export function sharesAt({ shares, changes = [] }: PlanConfig, window: number): readonly number[] {
  return changes.findLast((change) => change.window <= window)?.shares ?? shares;
}

/**
 * A hash of everything that decides the rows from a window on, except the position itself. Earlier and later shares are
 * not part of it.
 */
export function fingerprintOf(config: PlanConfig, tasks: readonly TaskLengths[], window: number): number {
  const { seed, inputsLimit, targetsLimit, windowDraws } = config;
  const names = tasks.map(({ name, numExamples }) => [name, numExamples]);
  return hashName(JSON.stringify([seed, inputsLimit, targetsLimit, windowDraws, sharesAt(config, window), names]));
}

/** @throws CONFIG_INVALID */
export function checkPlanConfig(config: PlanConfig, tasks: readonly TaskLengths[]): void {
  for (const field of ['inputsLimit', 'targetsLimit', 'windowDraws'] as const) {
    const value = config[field];
    if (!Number.isInteger(value) || value < 1)
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture: ${field}: expected a whole number of at least 1, found ${value}`,
      );
  }
  if (!Number.isSafeInteger(config.seed) || config.seed < 0)
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture: seed: expected a whole number from 0 to 2^53 - 1, found ${config.seed}`,
    );
  checkShares(config.shares, tasks);
  let before = -1;
  for (const { window, shares } of config.changes ?? []) {
    if (!Number.isSafeInteger(window) || window <= before)
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture: changes of shares: expected increasing window numbers, found ${window} after ${before}`,
      );
    before = window;
    checkShares(shares, tasks);
  }
}

/** @throws CONFIG_INVALID if there is not one share for each task, or a task without examples has a share */
export function checkShares(shares: readonly number[], tasks: readonly TaskLengths[]): void {
  if (shares.length !== tasks.length)
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture: expected one share for each of ${tasks.length} tasks, found ${shares.length}`,
    );
  tasks.forEach(({ name, numExamples }, task) => {
    if (shares[task]! > 0 && !(Number.isInteger(numExamples) && numExamples >= 1))
      throw new TrainerError(
        'CONFIG_INVALID',
        `mixture: task ${name} has a share of ${shares[task]!} but ${numExamples} examples; prepare it again or set its rate to 0`,
      );
  });
}
