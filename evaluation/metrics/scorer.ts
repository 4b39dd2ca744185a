/**
 * What every metric of this room is: a pure function from targets and predictions to a scorer.
 *
 * A scorer has done the work on each example once (tokens, n-grams, alignments). It scores any selection of examples, with repetition, so that
 * a bootstrap (standard-error.ts) costs sums and no second tokenization.
 */
import { TrainerError } from '../../shared/errors.ts';

/** Figures by name. NaN: the figure is not defined for these examples (no example, a constant side). */
export type Scores = Readonly<Record<string, number>>;

export interface Scorer {
  /** Number of units that a bootstrap sample draws: examples, or groups where a metric judges groups. */
  readonly numUnits: number;
  /** The scores of these units, by index, repeated units counted repeatedly; of each unit once if left out. */
  score(units?: ArrayLike<number>): Scores;
}

/** Compares one prediction with one target for each example. Throws `METRIC_INPUT_INVALID` if their numbers differ. */
export type Metric<Target, Prediction = Target> = (
  targets: readonly Target[],
  predictions: readonly Prediction[],
) => Scorer;

/** @throws TrainerError METRIC_INPUT_INVALID if there is not one prediction for each target */
export function checkPaired(metric: string, targets: readonly unknown[], predictions: readonly unknown[]): void {
  if (targets.length !== predictions.length) {
    throw new TrainerError(
      'METRIC_INPUT_INVALID',
      `${metric}: expected one prediction for each target, found ${targets.length} targets and ${predictions.length} predictions`,
    );
  }
}

/** All indices below `count`, in order. */
function everyUnit(count: number): number[] {
  return Array.from({ length: count }, (_, unit) => unit);
}

/** A scorer of a metric that needs the selected examples themselves (ranks, correlations). */
export function selectionScorer(numUnits: number, score: (units: ArrayLike<number>) => Scores): Scorer {
  const all = everyUnit(numUnits);
  return { numUnits, score: (units = all) => score(units) };
}

/**
 * A scorer of a metric that is a function of summed statistics.
 *
 * @param statistics one row for each unit, all of the same width
 * @param finish scores of the column sums; `numSelected` is the number of units that were summed, repeated ones counted repeatedly
 */
export function sumScorer(
  statistics: readonly (readonly number[])[],
  width: number,
  finish: (sums: readonly number[], numSelected: number) => Scores,
): Scorer {
  const numUnits = statistics.length;
  const table = new Float64Array(numUnits * width);
  statistics.forEach((row, unit) => table.set(row, unit * width));
  return selectionScorer(numUnits, (units) => {
    const sums = new Array<number>(width).fill(0);
    for (let place = 0; place < units.length; place++) {
      const start = units[place]! * width;
      for (let column = 0; column < width; column++) sums[column] = sums[column]! + table[start + column]!;
    }
    return finish(sums, units.length);
  });
}

/** A scorer whose scores are the means of figures of single examples, times `scale`. @param names the figures, in the order of a row */
export function meanScorer(names: readonly string[], rows: readonly (readonly number[])[], scale = 1): Scorer {
  return sumScorer(rows, names.length, (sums, numSelected) =>
    Object.fromEntries(names.map((name, column) => [name, (scale * sums[column]!) / numSelected])),
  );
}
