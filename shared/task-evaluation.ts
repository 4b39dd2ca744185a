/**
 * Names of metrics and post-processors: what a task may declare and what evaluation/ computes.
 *
 * Definition: a post-processor makes values of one or several kinds from a generated text and an evaluation example. A metric compares values of
 * one kind. A task fits if its post-processor gives the kind of each of its metrics. The types of the values are in evaluation/compared-values.ts.
 * Names are those of T5 (t5.data.postprocessors, t5.evaluation.metrics) where T5 has the function.
 */
import { nearestHint } from './nearest-names.ts';

/** Metric → the kind of values that it compares. */
export const METRIC_KINDS = {
  accuracy: 'label',
  matthews_corrcoef: 'label',
  f1_score_with_invalid: 'class',
  mean_multiclass_f1: 'class',
  macro_f1: 'class',
  multi_label_f1: 'labels',
  pearson_corrcoef: 'number',
  spearman_corrcoef: 'number',
  sequence_accuracy: 'text',
  rouge: 'text',
  edit_distance: 'text',
  accepted_answer: 'references',
  squad: 'references',
  trivia_qa: 'references',
  coqa_f1: 'references',
  bleu: 'references',
  bleu_13a: 'references',
  gem_bleu: 'references',
  gem_rouge: 'references',
  meteor: 'references',
  chrf: 'references',
  ter: 'references',
  caption: 'references',
  sari: 'simplification',
  span_squad: 'span',
  multirc: 'grouped class',
  record: 'grouped references',
  slot_f1: 'slots',
} as const;

export type MetricName = keyof typeof METRIC_KINDS;
export type ValueKind = (typeof METRIC_KINDS)[MetricName];

/** These average over the labels of the post-processor. */
const METRICS_OVER_LABELS: ReadonlySet<string> = new Set(['mean_multiclass_f1', 'macro_f1', 'multi_label_f1']);

interface PostprocessorFacts {
  readonly kinds: readonly ValueKind[];
  /** Whether it needs the labels of the task. */
  readonly hasLabels: boolean;
  /** Fields of the evaluation example that it reads. */
  readonly fields: readonly string[];
}

export const POSTPROCESSORS = {
  text: { kinds: ['text', 'label', 'references'], hasLabels: false, fields: [] },
  lower_text: { kinds: ['text', 'label', 'references'], hasLabels: false, fields: [] },
  references: { kinds: ['references'], hasLabels: false, fields: [] },
  string_label_to_class_id: { kinds: ['class', 'label'], hasLabels: true, fields: [] },
  string_to_float: { kinds: ['number'], hasLabels: false, fields: [] },
  span_qa: { kinds: ['span'], hasLabels: false, fields: ['context'] },
  multirc: { kinds: ['grouped class'], hasLabels: false, fields: ['idx/question'] },
  record: { kinds: ['grouped references'], hasLabels: false, fields: ['idx/passage', 'idx/query'] },
  wsc_simple: { kinds: ['class', 'label'], hasLabels: false, fields: ['label'] },
  label_names: { kinds: ['labels'], hasLabels: true, fields: [] },
  slots: { kinds: ['slots'], hasLabels: false, fields: [] },
  explained_label: { kinds: ['class', 'label', 'references'], hasLabels: true, fields: [] },
  simplification: { kinds: ['simplification', 'references'], hasLabels: false, fields: ['source'] },
} as const satisfies Readonly<Record<string, PostprocessorFacts>>;

export type PostprocessorName = keyof typeof POSTPROCESSORS;

export const METRIC_NAMES: readonly string[] = Object.keys(METRIC_KINDS);
export const POSTPROCESSOR_NAMES: readonly string[] = Object.keys(POSTPROCESSORS);

/** A post-processor with its parameters. */
export interface Postprocess {
  readonly name: PostprocessorName;
  /** Names of the classes, in the order of their ids. */
  readonly labels?: readonly string[];
}

/** How the predictions of a task are judged. */
export interface TaskEvaluation {
  readonly postprocess: Postprocess;
  readonly metrics: readonly MetricName[];
}

export function isMetricName(name: string): name is MetricName {
  return Object.hasOwn(METRIC_KINDS, name);
}

export function isPostprocessorName(name: string): name is PostprocessorName {
  return Object.hasOwn(POSTPROCESSORS, name);
}

function factsOf(name: PostprocessorName): PostprocessorFacts {
  return POSTPROCESSORS[name];
}

/** Whether the post-processor gives what the metric compares. */
function gives(postprocessor: PostprocessorName, metric: MetricName): boolean {
  return factsOf(postprocessor).kinds.includes(METRIC_KINDS[metric]);
}

/** A problem of a declaration. */
export interface EvaluationProblem {
  readonly at: 'metrics' | 'postprocess' | 'fields';
  readonly message: string;
}

export type CheckedEvaluation =
  | { readonly ok: true; readonly evaluation: TaskEvaluation }
  | { readonly ok: false; readonly problems: readonly EvaluationProblem[] };

/** What a task declares: names that are not checked yet. */
export interface DeclaredEvaluation {
  readonly metrics: readonly string[];
  /** Left out: the first of string_label_to_class_id (with labels), references and text that fits all metrics. */
  readonly postprocess?: string | undefined;
  readonly labels?: readonly string[] | undefined;
  /** Names of the fields that an evaluation example holds. */
  readonly fields?: readonly string[] | undefined;
}

/** Finds unknown names, with the nearest ones, and metrics that do not fit the post-processor. */
export function checkEvaluation({ metrics, postprocess, labels, fields = [] }: DeclaredEvaluation): CheckedEvaluation {
  const known = metrics.filter(isMetricName);
  const problems: EvaluationProblem[] = metrics
    .filter((name) => !isMetricName(name))
    .map((name) => ({ at: 'metrics', message: `unknown metric "${name}"; ${hintOf(name, METRIC_NAMES)}` }));
  if (postprocess !== undefined && !isPostprocessorName(postprocess)) {
    const hint = hintOf(postprocess, POSTPROCESSOR_NAMES);
    problems.push({ at: 'postprocess', message: `unknown post-processor "${postprocess}"; ${hint}` });
    return { ok: false, problems };
  }
  if (problems.length > 0) return { ok: false, problems };
  const name = postprocess ?? fittingPostprocessor(known, labels !== undefined);
  if (name === undefined) {
    const kinds = known.map((metric) => `${metric} compares ${METRIC_KINDS[metric]}`).join(', ');
    const message = `no default post-processor fits all metrics (${kinds}); name one with postprocess: ${POSTPROCESSOR_NAMES.join(', ')}`;
    return { ok: false, problems: [{ at: 'metrics', message }] };
  }
  const { hasLabels } = factsOf(name);
  if (hasLabels && labels === undefined)
    problems.push({ at: 'postprocess', message: `${name} needs the labels of the task, found none` });
  for (const metric of known) problems.push(...fitProblems(metric, name, labels));
  problems.push(...fieldProblems(name, fields));
  if (problems.length > 0) return { ok: false, problems };
  const chosen: Postprocess = { name, ...(hasLabels && labels !== undefined ? { labels } : {}) };
  return { ok: true, evaluation: { postprocess: chosen, metrics: known } };
}

function fieldProblems(name: PostprocessorName, fields: readonly string[]): EvaluationProblem[] {
  const { fields: read } = factsOf(name);
  const missing = read.filter((field) => !fields.includes(field));
  const unread = fields.filter((field) => !read.includes(field));
  return [
    ...missing.map((field) => `${name} reads field "${field}", which has no column; write it in fields`),
    ...unread.map((field) => `${name} does not read field "${field}"; it reads ${read.join(', ') || 'no field'}`),
  ].map((message) => ({ at: 'fields', message }));
}

function fitProblems(
  metric: MetricName,
  name: PostprocessorName,
  labels: readonly string[] | undefined,
): EvaluationProblem[] {
  const { kinds, hasLabels } = factsOf(name);
  if (!gives(name, metric)) {
    const fitting = Object.keys(POSTPROCESSORS).filter((other) => isPostprocessorName(other) && gives(other, metric));
    const message = `${metric} compares ${METRIC_KINDS[metric]}, but post-processor ${name} gives ${kinds.join(', ')}; those that fit: ${fitting.join(', ')}`;
    return [{ at: 'metrics', message }];
  }
  if (METRICS_OVER_LABELS.has(metric) && !hasLabels)
    return [{ at: 'metrics', message: `${metric} averages over labels, but post-processor ${name} has none` }];
  if (metric === 'f1_score_with_invalid' && hasLabels && labels !== undefined && labels.length !== 2)
    return [
      { at: 'metrics', message: `${metric} expects two labels, found ${labels.length}; macro_f1 takes any number` },
    ];
  return [];
}

function fittingPostprocessor(metrics: readonly MetricName[], hasLabels: boolean): PostprocessorName | undefined {
  const candidates: readonly PostprocessorName[] = hasLabels
    ? ['string_label_to_class_id', 'references', 'text']
    : ['references', 'text'];
  return candidates.find((name) => metrics.every((metric) => gives(name, metric)));
}

function hintOf(name: string, known: readonly string[]): string {
  return nearestHint(name, known, `known here: ${known.join(', ')}`);
}
