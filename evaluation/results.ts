/**
 * results.json and predictions/*.jsonl: the outcome of an evaluation, and how they are read again. Pure.
 *
 * Neither holds a time, a path or a name of a machine: equal models, sets and settings give equal bytes. Figures that are not defined are null.
 */
import { z } from 'zod';
import { TrainerError } from '../shared/errors.ts';
import {
  checkEvaluation,
  isPostprocessorName,
  POSTPROCESSORS,
  type TaskEvaluation,
} from '../shared/task-evaluation.ts';
import type { JudgedLine, SetScores } from './judge-set.ts';
import type { MetricScores } from './task-scores.ts';

/** Raise it when a metric or post-processor gives other figures. */
export const METRICS_REVISION = 1;
/** The figures of every set under teacher forcing, among its metrics. */
export const TEACHER_FORCING = 'teacher_forcing';

export const RESULTS_FILE = 'results.json';

const count = z.int().nonnegative();
/** Null: not defined for these examples. */
const figure = z.number().nullable();

const metricsSchema = z.record(
  z.string(),
  z.strictObject({
    /** Examples, or groups where the metric judges groups. */
    numUnits: count,
    figures: z.record(z.string(), z.strictObject({ score: figure, standardError: figure })),
  }),
);

const setSchema = z.strictObject({
  task: z.string(),
  /** E.g. `validation`, or `validation_matched` where a split has several sets. */
  name: z.string(),
  split: z.string(),
  kind: z.enum(['supervised', 'denoising']),
  /** Of the whole set; `numExamples` of them were evaluated, the first ones. */
  hash: z.string(),
  numExamples: count,
  /** Examples whose inputs were cut to the longest row. */
  numCut: count,
  numTargetTokens: count,
  /** How outputs were judged; null: the set was scored alone. */
  evaluation: z
    .strictObject({
      postprocess: z.strictObject({ name: z.string(), labels: z.array(z.string()).exactOptional() }),
      metrics: z.array(z.string()),
    })
    .nullable(),
  /** Predictions that name no label or number; null: nothing was generated. */
  numInvalid: count.nullable(),
  /** Outputs that reached the longest length without their end. */
  numUnended: count.nullable(),
  /** File of predictions beside this one. */
  predictions: z.string(),
  metrics: metricsSchema,
  /** The same of the examples that no train split has (`exmix tasks overlap`); absent: the set was not compared with train. */
  withoutLeaked: z.strictObject({ numLeaked: count, metrics: metricsSchema }).exactOptional(),
});
export type SetResult = z.output<typeof setSchema>;

const resultsSchema = z.strictObject({
  format: z.literal('exmix-evaluation'),
  version: z.literal(1),
  metricsRevision: count,
  /** Of the model's parameters. */
  paramDigest: z.string(),
  /** Updates of the checkpoint; null: the model is no checkpoint of exmix. */
  step: count.nullable(),
  /** Hash of the tokenizer. */
  tokenizer: z.string(),
  /** Fingerprint of the engine. */
  engine: z.string(),
  /** DecodingSettings; null: scores only. */
  decoding: z.json(),
  batchTokens: count,
  /** The most examples of a set that were evaluated; null: all. */
  maxExamples: count.nullable(),
  sets: z.array(setSchema),
  /** Suites of which every task was evaluated: each task's mean, and their mean. */
  averages: z.record(z.string(), z.strictObject({ perTask: z.record(z.string(), figure), average: figure })),
});
export type Results = z.output<typeof resultsSchema>;
/** Results that are not yet written. */
export type NewResults = Omit<Results, 'format' | 'version'>;

/** What identifies a set in its results. */
export interface SetIdentity extends Pick<SetResult, 'task' | 'name' | 'split' | 'kind' | 'hash'> {
  readonly evaluation?: TaskEvaluation | undefined;
}

export function setResultOf({ evaluation, ...identity }: SetIdentity, scores: SetScores): SetResult {
  const { numExamples, numCut, numTargetTokens, teacherForcing, outputs, withoutLeaked } = scores;
  return {
    ...identity,
    ...{ numExamples, numCut, numTargetTokens },
    evaluation:
      outputs === undefined || evaluation === undefined
        ? null
        : { postprocess: postprocessOf(evaluation), metrics: [...evaluation.metrics] },
    numInvalid: outputs?.numInvalid ?? null,
    numUnended: outputs?.numUnended ?? null,
    predictions: predictionsFile(identity),
    metrics: metricsOf(outputs?.metrics, teacherForcing),
    ...(withoutLeaked === undefined
      ? {}
      : {
          withoutLeaked: {
            numLeaked: withoutLeaked.numLeaked,
            metrics: metricsOf(withoutLeaked.metrics, withoutLeaked.teacherForcing),
          },
        }),
  };
}

function metricsOf(
  metrics: ReadonlyMap<string, MetricScores> | undefined,
  teacherForcing: MetricScores,
): SetResult['metrics'] {
  const all = [...(metrics ?? []), [TEACHER_FORCING, teacherForcing] as const];
  return Object.fromEntries(all.map(([name, found]) => [name, metricResultOf(found)]));
}

function postprocessOf({ postprocess: { name, labels } }: TaskEvaluation) {
  return { name, ...(labels === undefined ? {} : { labels: [...labels] }) };
}

function metricResultOf({ numUnits, figures }: MetricScores): SetResult['metrics'][string] {
  const entries = Object.entries(figures).map(([name, { score, standardError }]) => [
    name,
    { score: defined(score), standardError: defined(standardError) },
  ]);
  return { numUnits, figures: Object.fromEntries(entries) as SetResult['metrics'][string]['figures'] };
}

function defined(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** A task with several sets in a split has a file for each. */
function predictionsFile({ task, name, split }: Pick<SetResult, 'task' | 'name' | 'split'>): string {
  return `predictions/${name === split ? task : `${task}.${name}`}.jsonl`;
}

export function formatResults(results: NewResults): string {
  // Parsing fixes the order of the keys.
  const parsed = resultsSchema.parse({ format: 'exmix-evaluation', version: 1, ...results });
  return `${JSON.stringify(parsed, null, 2)}\n`;
}

/** @throws CONFIG_INVALID for another file */
export function parseResults(text: string, path: string): Results {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const parsed = resultsSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new TrainerError(
    'CONFIG_INVALID',
    `${path}: expected the results of an evaluation (exmix evaluate), found other content`,
    { cause: parsed.error },
  );
}

/** The declaration by which a set was judged; undefined: it was scored alone. @throws CONFIG_INVALID for names of another version of exmix */
export function evaluationOf({ task, evaluation }: SetResult): TaskEvaluation | undefined {
  if (evaluation === null) return undefined;
  const { postprocess, metrics } = evaluation;
  const { name, labels } = postprocess;
  // The lines of the predictions have the fields; a missing one is found when it is read.
  const fields = isPostprocessorName(name) ? POSTPROCESSORS[name].fields : [];
  const checked = checkEvaluation({ metrics, postprocess: name, labels, fields });
  if (checked.ok) return checked.evaluation;
  const problems = checked.problems.map(({ message }) => message).join('; ');
  throw new TrainerError('CONFIG_INVALID', `results of ${task}: ${problems}; evaluate again with this version`);
}

const fieldValue: z.ZodType<string | number | boolean | readonly (string | number | boolean)[]> = z.union([
  z.string(),
  z.number(),
  z.boolean(),
  z.array(z.union([z.string(), z.number(), z.boolean()])),
]);

const lineSchema = z.strictObject({
  id: count,
  inputs: z.string(),
  references: z.array(z.string()),
  fields: z.record(z.string(), fieldValue).exactOptional(),
  prediction: z.string().exactOptional(),
  /** The search's score of the prediction. */
  score: z.number().exactOptional(),
  /** It names no label or number. */
  invalid: z.literal(true).exactOptional(),
  /** A train split has the example too. */
  leaked: z.literal(true).exactOptional(),
  /** Cross-entropy of the targets, nats. */
  loss: z.number(),
  numTokens: count,
  /** Target tokens that are the likeliest ones. */
  numRight: count,
  /** Figures of this example alone, by metric. */
  scores: z.record(z.string(), z.record(z.string(), figure)).exactOptional(),
});
export type PredictionLine = z.output<typeof lineSchema>;

/** A line of a file of predictions, with its line break. */
export function formatPrediction(line: JudgedLine): string {
  const { id, inputs, references, fields, loss, numTokens, numRight, isLeaked, output } = line;
  const scores = Object.entries(output?.scores ?? {}).map(([metric, figures]) => [
    metric,
    Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, defined(value)])),
  ]);
  return `${JSON.stringify({
    ...{ id, inputs, references },
    ...(Object.keys(fields).length === 0 ? {} : { fields }),
    ...(output === undefined ? {} : { prediction: output.prediction, score: output.score }),
    ...(output?.isInvalid === true ? { invalid: true } : {}),
    ...(isLeaked === true ? { leaked: true } : {}),
    ...{ loss, numTokens, numRight },
    ...(output === undefined ? {} : { scores: Object.fromEntries(scores) as object }),
  })}\n`;
}

/** @throws METRIC_INPUT_INVALID with the line */
export function parsePredictions(text: string, path: string): PredictionLine[] {
  const lines = text.split('\n').filter((line) => line !== '');
  return lines.map((line, at) => {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      value = undefined;
    }
    const parsed = lineSchema.safeParse(value);
    if (parsed.success && parsed.data.id === at) return parsed.data;
    throw new TrainerError(
      'METRIC_INPUT_INVALID',
      `${path}:${at + 1}: expected the prediction of example ${at}, found other content; evaluate again`,
    );
  });
}
