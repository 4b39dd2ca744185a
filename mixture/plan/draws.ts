/**
 * Decides which task gives draw i: smooth weighted round-robin over integer weights. It is a schedule, so nothing
 * depends on chance.
 *
 * Definition: shares become integer weights w that add up to W = 2^48. Each draw gives every task w credit. Tasks with
 * positive credit are eligible. The eligible task whose next example is due first, (W − credit) / w draws from now,
 * gives the draw and pays W. So example j of a task is drawn after ⌊jW/w⌋ and not after ⌈(j+1)W/w⌉ draws. These are
 * unit tasks with release times and deadlines on one machine; earliest-deadline-first always meets them if Σw = W
 * (Tijdeman's chairman assignment; Baruah's Pfair scheduling).
 *
 * Guarantee: after any number n of draws, a task was drawn ⌊n·w/W⌋ or ⌈n·w/W⌉ times. The usual rule, "the largest
 * credit wins", does not guarantee this: with many tasks it is more than one draw behind. The planner then shuffles the
 * draws inside each window. So in the final order the guarantee holds at each window boundary; inside a window of m
 * draws a count may be off by up to m·w/W + 1.
 *
 * Exactness: |credit| < W always, and every sum is an integer below 2^53, so credits never drift. The quotient has a
 * relative error of 2^-53, and distinct whole deadlines are further apart than that, so rounding never swaps them. A
 * weight differs from its share by less than (number of tasks) · 2^-48: 0.004 draws in 10^10 with 107 tasks.
 */

import { TrainerError } from '../../shared/errors.ts';

/** W: the sum of the weights of all tasks. */
export const WEIGHT_SUM = 2 ** 48;

/**
 * Shares → integer weights that add up to WEIGHT_SUM. A positive share never becomes 0. The largest weight gets the
 * rest of the rounding.
 * @throws CONFIG_INVALID if a share is negative or not finite, or if they do not add up to 1 (within 1e-9)
 */
export function computeWeights(shares: readonly number[]): Float64Array {
  const sum = shares.reduce((a, b) => a + b, 0);
  if (shares.some((share) => !(share >= 0)) || !(Math.abs(sum - 1) <= 1e-9))
    throw new TrainerError(
      'CONFIG_INVALID',
      `mixture: expected shares of at least 0 that add up to 1, found [${shares.join(', ')}] with the sum ${sum}; use computeRates`,
    );
  const weights = Float64Array.from(shares, (share) =>
    share === 0 ? 0 : Math.max(1, Math.round((share / sum) * WEIGHT_SUM)),
  );
  const largest = weights.indexOf(Math.max(...weights));
  weights[largest] = weights[largest]! + WEIGHT_SUM - weights.reduce((a, b) => a + b, 0);
  return weights;
}

/**
 * The tasks of the next `numDraws` draws, O(tasks) for each.
 * @param weights from computeWeights
 * @param credits one integer for each task, adding up to 0; all 0 before the first draw. Updated in place: they are the
 * whole state.
 * @returns task numbers, in the order of the schedule
 */
export function drawTasks(weights: Float64Array, credits: Float64Array, numDraws: number): Int32Array {
  const numTasks = weights.length;
  const draws = new Int32Array(numDraws);
  for (let draw = 0; draw < numDraws; draw++) {
    let chosen = -1;
    let earliest = Infinity;
    for (let task = 0; task < numTasks; task++) {
      const weight = weights[task]!;
      const credit = credits[task]! + weight;
      credits[task] = credit;
      if (credit <= 0) continue;
      const dueIn = (WEIGHT_SUM - credit) / weight;
      if (dueIn < earliest) {
        earliest = dueIn;
        chosen = task;
      }
    }
    // The credits add up to W here, so at least one is positive, and `chosen` is a task.
    credits[chosen] = credits[chosen]! - WEIGHT_SUM;
    draws[draw] = chosen;
  }
  return draws;
}
