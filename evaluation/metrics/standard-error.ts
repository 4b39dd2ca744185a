/**
 * How sure a score is: the bootstrap standard error (Efron 1979) of each figure of a scorer.
 *
 * Samples are drawn with a counter-based stream of a fixed seed: the same examples give the same bytes on every machine.
 */
import { hashName, RandomStream } from '../../shared/random.ts';
import type { Scorer, Scores } from './scorer.ts';

const NUM_BOOTSTRAP_SAMPLES = 1_000;
const SEED = 0;

/** For each figure, the standard deviation (n − 1) over bootstrap samples; NaN for fewer than two units or figures that are not finite. */
export function standardErrors(scorer: Scorer, numSamples = NUM_BOOTSTRAP_SAMPLES): Scores {
  const { numUnits } = scorer;
  const names = Object.keys(scorer.score());
  if (numUnits < 2) return Object.fromEntries(names.map((name) => [name, NaN]));
  const random = new RandomStream([SEED, hashName('bootstrap')]);
  const units = new Uint32Array(numUnits);
  const values = new Map(names.map((name) => [name, new Float64Array(numSamples)]));
  for (let sample = 0; sample < numSamples; sample++) {
    for (let at = 0; at < numUnits; at++) units[at] = random.nextBelow(numUnits);
    const scores = scorer.score(units);
    for (const [name, column] of values) column[sample] = scores[name] ?? NaN;
  }
  return Object.fromEntries([...values].map(([name, column]) => [name, standardDeviation(column)]));
}

function standardDeviation(values: Float64Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1));
}
