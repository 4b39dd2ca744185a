/** Correlations of numbers (STS-B). Sources: scipy.stats pearsonr and spearmanr through t5.evaluation.metrics; times 100, NaN for a constant side. */
import { checkPaired, selectionScorer, type Metric } from './scorer.ts';

function pearson(x: readonly number[], y: readonly number[]): number {
  const meanX = x.reduce((sum, value) => sum + value, 0) / x.length;
  const meanY = y.reduce((sum, value) => sum + value, 0) / y.length;
  let xx = 0;
  let yy = 0;
  let xy = 0;
  for (let at = 0; at < x.length; at++) {
    const dx = x[at]! - meanX;
    const dy = y[at]! - meanY;
    xx += dx * dx;
    yy += dy * dy;
    xy += dx * dy;
  }
  const isConstant = (values: readonly number[]): boolean => values.every((value) => value === values[0]);
  if (isConstant(x) || isConstant(y)) return NaN;
  return Math.max(-1, Math.min(1, xy / (Math.sqrt(xx) * Math.sqrt(yy))));
}

/** Ranks from 1; equal values share the mean of their ranks. */
function averageRanks(values: readonly number[]): number[] {
  const order = values.map((_, at) => at).sort((a, b) => values[a]! - values[b]!);
  const ranks = new Array<number>(values.length).fill(0);
  for (let start = 0; start < order.length;) {
    let end = start + 1;
    while (end < order.length && values[order[end] ?? 0] === values[order[start] ?? 0]) end++;
    for (let place = start; place < end; place++) ranks[order[place] ?? 0] = (start + 1 + end) / 2;
    start = end;
  }
  return ranks;
}

function correlation(name: string, coefficient: (x: number[], y: number[]) => number): Metric<number> {
  return (targets, predictions) => {
    checkPaired(name, targets, predictions);
    return selectionScorer(targets.length, (units) => {
      const pick = (values: readonly number[]): number[] => Array.from(units, (unit) => values[unit]!);
      return { [name]: 100 * coefficient(pick(targets), pick(predictions)) };
    });
  };
}

export const pearsonCorrcoef = correlation('pearson_corrcoef', pearson);
export const spearmanCorrcoef = correlation('spearman_corrcoef', (x, y) =>
  // A number that is not a number has no rank; scipy's answer is NaN.
  [...x, ...y].some(Number.isNaN) ? NaN : pearson(averageRanks(x), averageRanks(y)),
);
