/**
 * `evaluation.stopWhen`: the run ends early when its validations no longer improve. Pure.
 *
 * Definition: the run ends after the first multiple of `evaluation.everySteps` at which the best score of the metric is `patience` validations
 * old. An equal score is no improvement, and neither is one that is not defined. Before the first score nothing ends.
 *
 * Assumption: the decision depends on recorded results alone. It is the same for any number of workers, and for a run that was killed or resumed.
 * The validation after the last step of a shorter run is at no multiple, so it does not count.
 */
import { scoreOf, type ScoredStep } from '../checkpoint/validation-score.ts';

export interface StopRule {
  readonly metric: string;
  /** Validations without a better score. */
  readonly patience: number;
  readonly everySteps: number;
}

export interface EarlyStop {
  /** The validation that decided it. */
  readonly step: number;
  readonly bestStep: number;
  readonly metric: string;
  readonly patience: number;
  /** One sentence. */
  readonly reason: string;
}

/** @param validations ascending by step, with equal settings @returns undefined: the run goes on */
export function findEarlyStop(
  validations: readonly Omit<ScoredStep, 'settings'>[],
  { metric, patience, everySteps }: StopRule,
): EarlyStop | undefined {
  let best: { readonly step: number; readonly value: number } | undefined;
  let numWithout = 0;
  for (const { step, tasks } of validations.filter((validation) => validation.step % everySteps === 0)) {
    const score = scoreOf(metric, tasks);
    const isBetter =
      score !== undefined && (best === undefined || (score.isLowBest ? score.value < best.value : score.value > best.value)); // prettier-ignore
    if (isBetter) [best, numWithout] = [{ step, value: score.value }, 0];
    else numWithout += 1;
    if (best === undefined || numWithout < patience) continue;
    const since = `no better ${metric} than ${best.value.toFixed(4)} of step ${best.step}`;
    const reason = `${since} in ${patience} validation${patience === 1 ? '' : 's'} up to step ${step}`;
    return { step, bestStep: best.step, metric, patience, reason };
  }
  return undefined;
}

/** A set that a run evaluates; without `evaluation` it has a loss alone. */
export interface MeasuredSet {
  readonly name: string;
  readonly evaluation?: { readonly metrics: readonly string[] };
}

/** @returns one sentence where no validation of these sets can have a score of the metric */
export function findMetricProblem(metric: string, sets: readonly MeasuredSet[]): string | undefined {
  const judged = sets.filter(({ evaluation }) => evaluation !== undefined);
  const hasGem = judged.some(({ evaluation }) => ['gem_bleu', 'gem_rouge'].every((name) => evaluation?.metrics.includes(name))); // prettier-ignore
  switch (metric) {
    case 'loss':
      return undefined;
    case 'mean':
      return judged.length > 0 ? undefined : 'expected loss, got mean: no set has a metric';
    case 'gem':
      return hasGem ? undefined : 'expected a set with gem_bleu and gem_rouge for gem, found none';
  }
  const [name = '', part] = metric.split('/');
  const set = sets.find((candidate) => candidate.name === name);
  const names = sets.map((candidate) => candidate.name).join(', ');
  if (set === undefined) return `expected mean, gem, loss or one of the evaluated sets (${names}), got ${metric}`;
  const metrics = set.evaluation?.metrics ?? [];
  if (part === 'loss' || (part === undefined ? metrics.length > 0 : metrics.includes(part))) return undefined;
  const expected = ['loss', ...metrics].map((known) => `${name}/${known}`).join(', ');
  return `expected one of ${expected}, got ${metric}`;
}
