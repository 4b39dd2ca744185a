/**
 * One number for a validation: what `checkpoint.keepBest.metric` names. Pure.
 *
 * Definitions, over the tasks of a validation:
 *   loss                mean over tasks of the mean cross-entropy per target token, nats; the lowest is best
 *   mean                T5: the mean over tasks of the mean of a task's scores
 *   gem                 GEM: the mean over tasks of the mean of BLEU, ROUGE-1, ROUGE-2 and ROUGE-L
 *   TASK                the mean of the scores of a task; TASK/loss its loss
 *   TASK/METRIC         the mean of the scores of a metric; TASK/METRIC/SCORE one of them
 * Scores that are not defined are skipped, as T5 does. Error rates (TER, edit distance) and lengths are in no mean of several scores.
 *
 * Sources: t5.evaluation.eval_utils.metric_group_max; Gehrmann et al. 2021 (GEM), with the four-metric mean of ExT5 (arXiv 2111.10952).
 */
import type { ValidatedTask } from '../journal/journal-records.ts';

export type ValidatedTasks = Readonly<Record<string, ValidatedTask>>;

export interface ValidationScore {
  readonly value: number;
  readonly isLowBest: boolean;
}

/** Their scores are errors: the lowest is best. */
const ERROR_METRICS: ReadonlySet<string> = new Set(['ter', 'edit_distance']);
/** Scores of BLEU that are parts of the first one. */
const PARTS: ReadonlySet<string> = new Set([
  ...['precision1', 'precision2', 'precision3', 'precision4'],
  ...['brevity_penalty', 'prediction_length', 'reference_length'],
]);
const GEM_SCORES = ['gem_bleu/bleu', 'gem_rouge/rouge1', 'gem_rouge/rouge2', 'gem_rouge/rougeL'] as const;

/** @returns undefined where the validation has no such score */
export function scoreOf(metric: string, tasks: ValidatedTasks): ValidationScore | undefined {
  const all = Object.values(tasks);
  switch (metric) {
    case 'loss':
      return scored(mean(all.map(({ loss }) => loss)), true);
    case 'mean':
      return scored(mean(all.map((task) => meanOf(task))), false);
    case 'gem':
      return scored(mean(all.map(gemOf)), false);
  }
  const [name = '', part, figure] = metric.split('/');
  const task = tasks[name];
  if (task === undefined) return undefined;
  if (part === undefined) return scored(meanOf(task), false);
  if (part === 'loss') return scored(finite(task.loss), true);
  const isLowBest = ERROR_METRICS.has(part);
  const scores = task.metrics[part];
  if (scores === undefined) return undefined;
  return scored(figure === undefined ? mean(wholeScores(scores)) : finite(scores[figure]), isLowBest);
}

function scored(value: number | undefined, isLowBest: boolean): ValidationScore | undefined {
  return value === undefined ? undefined : { value, isLowBest };
}

function meanOf({ metrics }: ValidatedTask): number | undefined {
  const whole = Object.entries(metrics).filter(([metric]) => !ERROR_METRICS.has(metric));
  return mean(whole.flatMap(([, scores]) => wholeScores(scores)));
}

function gemOf({ metrics }: ValidatedTask): number | undefined {
  const scores = GEM_SCORES.map((path) => {
    const [metric = '', figure = ''] = path.split('/');
    return finite(metrics[metric]?.[figure]);
  });
  return scores.includes(undefined) ? undefined : mean(scores);
}

function wholeScores(scores: Readonly<Record<string, number | null>>): (number | null)[] {
  return Object.entries(scores).flatMap(([name, score]) => (isPartOfScore(name) ? [] : [score]));
}

/** Whether a score is a part of another one of its metric. */
export function isPartOfScore(name: string): boolean {
  return PARTS.has(name);
}

function finite(score: number | null | undefined): number | undefined {
  return score === null || score === undefined || !Number.isFinite(score) ? undefined : score;
}

/** Of the defined ones; undefined where there is none. */
function mean(scores: readonly (number | null | undefined)[]): number | undefined {
  const defined = scores.map(finite).filter((score) => score !== undefined);
  return defined.length === 0 ? undefined : defined.reduce((sum, score) => sum + score, 0) / defined.length;
}

/** A validation of the parameters after `step`. */
export interface ScoredStep {
  readonly step: number;
  readonly tasks: ValidatedTasks;
  /** Validations with another one are not compared. */
  readonly settings: string;
}

/**
 * The best validations, the best first; of equal ones the earliest is better, as in T5. Validations of other settings cannot be compared: the
 * best ones of each follow.
 */
export function bestSteps(validations: readonly ScoredStep[], metric: string, count: number): BestStep[] {
  const bySettings = new Map<string, BestStep[]>();
  for (const { step, tasks, settings } of [...validations].reverse()) {
    const score = scoreOf(metric, tasks);
    if (score === undefined) continue;
    const all = bySettings.get(settings) ?? [];
    all.push({ step, value: score.value, isLowBest: score.isLowBest });
    bySettings.set(settings, all);
  }
  return [...bySettings.values()].flatMap((all) => all.sort(compareBest).slice(0, count));
}

export interface BestStep extends ValidationScore {
  readonly step: number;
}

function compareBest(a: BestStep, b: BestStep): number {
  return (a.isLowBest ? a.value - b.value : b.value - a.value) || a.step - b.step;
}
