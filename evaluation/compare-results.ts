/**
 * Two evaluations of the same examples: differences of all figures with a paired bootstrap interval (Efron and Tibshirani 1993, Koehn 2004),
 * and the examples whose predictions changed. Pure.
 *
 * Both models are scored on the same samples of examples, so what makes an example hard for both cancels out.
 */
import { TrainerError } from '../shared/errors.ts';
import { hashName, RandomStream } from '../shared/random.ts';
import { teacherForcing } from './judge-set.ts';
import type { Scorer } from './metrics/scorer.ts';
import { evaluationOf, TEACHER_FORCING, type PredictionLine, type SetResult } from './results.ts';
import { compareTask } from './task-scores.ts';

const NUM_SAMPLES = 1_000;
const SEED = 0;
/** Share of the samples on each side of the interval. */
const TAIL = 0.025;

export interface FigureDifference {
  readonly metric: string;
  readonly figure: string;
  readonly a: number;
  readonly b: number;
  /** B − A. */
  readonly difference: number;
  /** 95 % of the samples' differences lie between them; NaN where a sample has no figure. */
  readonly low: number;
  readonly high: number;
  readonly verdict: 'B is higher' | 'B is lower' | 'not told apart';
}

export interface ChangedExample {
  readonly id: number;
  readonly inputs: string;
  readonly references: readonly string[];
  readonly a: string;
  readonly b: string;
}

export interface SetComparison {
  readonly task: string;
  readonly name: string;
  readonly numExamples: number;
  readonly figures: readonly FigureDifference[];
  /** Examples with another prediction, in the order of the set. */
  readonly changed: readonly ChangedExample[];
}

export interface ComparedSide {
  /** Where it stands, for errors. */
  readonly place: string;
  readonly set: SetResult;
  readonly lines: readonly PredictionLine[];
}

/** @throws METRIC_INPUT_INVALID for results of other examples, or that were judged in another way */
export function compareSets(a: ComparedSide, b: ComparedSide): SetComparison {
  checkSame(a, b);
  const { task, name, numExamples } = a.set;
  const evaluation = evaluationOf(a.set);
  const scorers = new Map<string, readonly [Scorer, Scorer]>();
  if (evaluation !== undefined) {
    const [found, other] = [a, b].map(({ lines }) => {
      const examples = lines.map(({ references, fields = {} }) => ({ references, fields }));
      return compareTask(evaluation, examples, lines.map(({ prediction = '' }) => prediction)).scorers; // prettier-ignore
    });
    for (const [metric, scorer] of found!) scorers.set(metric, [scorer, other!.get(metric)!]);
  }
  scorers.set(TEACHER_FORCING, [teacherForcing(a.lines), teacherForcing(b.lines)]);
  const changed = a.lines.flatMap(({ id, inputs, references, prediction }, at) => {
    const other = b.lines[at]!.prediction;
    return prediction === undefined || other === undefined || prediction === other
      ? []
      : [{ id, inputs, references, a: prediction, b: other }];
  });
  const figures = [...scorers].flatMap(([metric, pair]) => differencesOf(metric, ...pair));
  return { task, name, numExamples, figures, changed };
}

function checkSame(a: ComparedSide, b: ComparedSide): void {
  const refuse = (what: string, found: (side: ComparedSide) => unknown): void => {
    const [left, right] = [a, b].map((side) => JSON.stringify(found(side)));
    if (left === right) return;
    throw new TrainerError(
      'METRIC_INPUT_INVALID',
      `${a.set.task} (${a.set.name}): expected two results with one ${what}, found ${left!.slice(0, 200)} in ${a.place} and ` +
        `${right!.slice(0, 200)} in ${b.place}; evaluate both models on the same set`,
    );
  };
  refuse('set', ({ set }) => set.hash);
  refuse('number of examples', ({ set, lines }) => [set.numExamples, lines.length]);
  refuse('way of judging', ({ set }) => set.evaluation);
}

function differencesOf(metric: string, a: Scorer, b: Scorer): FigureDifference[] {
  const [ofA, ofB] = [a.score(), b.score()];
  const names = Object.keys(ofA);
  const samples = new Map(names.map((name) => [name, new Float64Array(NUM_SAMPLES)]));
  const { numUnits } = a;
  const units = new Uint32Array(numUnits);
  const random = new RandomStream([SEED, hashName('paired bootstrap')]);
  for (let sample = 0; sample < NUM_SAMPLES; sample++) {
    for (let at = 0; at < numUnits; at++) units[at] = random.nextBelow(numUnits);
    const [left, right] = [a.score(units), b.score(units)];
    for (const [name, differences] of samples) differences[sample] = right[name]! - left[name]!;
  }
  return names.map((figure) => {
    const [low, high] = intervalOf(samples.get(figure)!);
    const [left, right] = [ofA[figure]!, ofB[figure]!];
    const verdict = low > 0 ? 'B is higher' : high < 0 ? 'B is lower' : 'not told apart';
    return { metric, figure, a: left, b: right, difference: right - left, low, high, verdict };
  });
}

function intervalOf(differences: Float64Array): [number, number] {
  if (differences.some((value) => Number.isNaN(value))) return [NaN, NaN];
  const sorted = differences.toSorted();
  const at = Math.floor(TAIL * NUM_SAMPLES);
  return [sorted[at]!, sorted[NUM_SAMPLES - 1 - at]!];
}
