/**
 * The scores of a task: its declaration, evaluation examples and predicted texts → figures with standard errors.
 *
 * Assumption: the declaration has passed `checkEvaluation`, so the post-processor gives the kind of each metric.
 */
import { TrainerError } from '../shared/errors.ts';
import { METRIC_KINDS, type MetricName, type TaskEvaluation } from '../shared/task-evaluation.ts';
import type { PredictionOf, Predictions, TargetOf, Targets } from './compared-values.ts';
import { METRICS, type MetricContext } from './metrics-by-name.ts';
import type { Synonyms } from './metrics/meteor.ts';
import { checkPaired, type Scorer } from './metrics/scorer.ts';
import { standardErrors } from './metrics/standard-error.ts';
import type { EvaluationExample } from './postprocess.ts';
import { POSTPROCESSORS_BY_NAME, type NamedPostprocessor } from './postprocessors-by-name.ts';

export interface Figure {
  /** NaN: not defined for these examples. */
  readonly score: number;
  readonly standardError: number;
}

export interface MetricScores {
  /** Examples, or groups where the metric judges groups. */
  readonly numUnits: number;
  readonly figures: Readonly<Record<string, Figure>>;
}

export interface TaskScores {
  readonly numExamples: number;
  /** Predictions that name no label or number. They are scored as wrong. */
  readonly numInvalid: number;
  readonly metrics: ReadonlyMap<MetricName, MetricScores>;
}

interface Compared {
  readonly targets: readonly Partial<Targets>[];
  readonly predictions: readonly Partial<Predictions>[];
}

/** Predictions of a task, compared with its examples once: any selection of them can be scored. */
export interface ComparedTask {
  /** For each example whether its prediction names no label or number. */
  readonly isInvalid: readonly boolean[];
  readonly scorers: ReadonlyMap<MetricName, Scorer>;
}

/**
 * @param predictions one text for each example
 * @throws TrainerError METRIC_INPUT_INVALID for another number of predictions, or an example without a field that the post-processor reads
 */
export function scoreTask(
  evaluation: TaskEvaluation,
  examples: readonly EvaluationExample[],
  predictions: readonly string[],
  synonyms?: Synonyms,
): TaskScores {
  const { isInvalid, scorers } = compareTask(evaluation, examples, predictions, synonyms);
  return {
    numExamples: examples.length,
    numInvalid: isInvalid.filter((invalid) => invalid).length,
    metrics: new Map([...scorers].map(([metric, scorer]) => [metric, metricScores(scorer)])),
  };
}

/** @param predictions one text for each example @throws as scoreTask */
export function compareTask(
  { postprocess, metrics }: TaskEvaluation,
  examples: readonly EvaluationExample[],
  predictions: readonly string[],
  synonyms?: Synonyms,
): ComparedTask {
  checkPaired('task scores', examples, predictions);
  const postprocessor: NamedPostprocessor<Partial<Targets>, Partial<Predictions>> = POSTPROCESSORS_BY_NAME[
    postprocess.name
  ](postprocess);
  const compared = {
    targets: examples.map((example) => postprocessor.target(example)),
    predictions: examples.map((example, at) => postprocessor.prediction(predictions[at]!, example)),
  };
  const context = { labels: postprocess.labels ?? [], ...(synonyms === undefined ? {} : { synonyms }) };
  return {
    isInvalid: examples.map((example, at) => postprocessor.isInvalid(predictions[at]!, example)),
    scorers: new Map(metrics.map((metric) => [metric, createScorer(metric, compared, context)])),
  };
}

// The name binds the kinds of targets, predictions and metric together.
// eslint-disable-next-line @typescript-eslint/no-unnecessary-type-parameters
function createScorer<Name extends MetricName>(name: Name, compared: Compared, context: MetricContext): Scorer {
  type Kind = (typeof METRIC_KINDS)[Name];
  const kind: Kind = METRIC_KINDS[name];
  const targets = compared.targets.map((values): TargetOf<Kind> => pick<Targets, Kind>(values, kind, name));
  const predictions = compared.predictions.map((values): PredictionOf<Kind> =>
    pick<Predictions, Kind>(values, kind, name),
  );
  return METRICS[name](context)(targets, predictions);
}

function pick<Values, Kind extends keyof Values & string>(
  values: Partial<Values>,
  kind: Kind,
  metric: MetricName,
): Values[Kind] {
  const value = values[kind];
  if (value !== undefined) return value;
  throw new TrainerError(
    'METRIC_INPUT_INVALID',
    `${metric} compares ${kind}, but the task's post-processor gives ${Object.keys(values).join(', ')}; check the declaration with checkEvaluation`,
  );
}

/** The figures of a scorer with their standard errors. */
export function metricScores(scorer: Scorer): MetricScores {
  const errors = standardErrors(scorer);
  return {
    numUnits: scorer.numUnits,
    figures: Object.fromEntries(
      Object.entries(scorer.score()).map(([name, score]) => [name, { score, standardError: errors[name] ?? NaN }]),
    ),
  };
}
