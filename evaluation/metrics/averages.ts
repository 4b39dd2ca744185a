/**
 * From scores of tasks to one figure: suites, and the choice of a checkpoint.
 *
 * Sources: t5.evaluation.eval_utils compute_avg_glue and metric_group_max (t5 0.9.4); GEM's four-figure mean (ExT5, section 4).
 */

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Figures that are numbers: NaN is a missing figure. */
function known(values: readonly number[]): number[] {
  return values.filter((value) => !Number.isNaN(value));
}

export interface SuiteScore {
  /** The mean of each task's figures. */
  readonly perTask: Readonly<Record<string, number>>;
  /** The mean over tasks. */
  readonly average: number;
}

/** A task's score is the mean of its figures, the suite's score the mean of its tasks. MNLI matched and mismatched are one task. */
export function suiteAverage(scores: Readonly<Record<string, Readonly<Record<string, number>>>>): SuiteScore {
  const perTask = Object.fromEntries(
    Object.entries(scores).map(([task, figures]) => [task, mean(Object.values(figures))]),
  );
  return { perTask, average: mean(Object.values(perTask)) };
}

/**
 * The checkpoint with the highest mean of a task's figures; the earliest on a tie. A missing figure (NaN) is left out of its mean.
 *
 * @param steps ascending steps of the checkpoints
 * @param figures for each metric, its value at each step
 * @returns the mean at each step, and the best step; undefined if no step has a figure
 */
export function bestCheckpoint(
  steps: readonly number[],
  figures: Readonly<Record<string, readonly number[]>>,
): { readonly means: readonly number[]; readonly bestStep: number | undefined } {
  const means = steps.map((_, at) => mean(known(Object.values(figures).map((values) => values[at]!))));
  let best: number | undefined;
  means.forEach((value, at) => {
    if (!Number.isNaN(value) && (best === undefined || value > means[best]!)) best = at;
  });
  return { means, bestStep: best === undefined ? undefined : steps[best] };
}
