/**
 * A row of the table of ExMix's tasks. The table is data; `toTask` makes a `Task` of a row.
 *
 * Definition: confidence is `high` if the set, its size and its place in ExMix agree with public figures. It is `low`
 * if they are from memory or inferred; the note says which.
 */
import { assertInvariant } from '../../../shared/errors.ts';
import { checkEvaluation, type MetricName, type PostprocessorName } from '../../../shared/task-evaluation.ts';
import type { Evaluation, EvaluationSplits, HubSource, References, SourceFormat, SourceSpec, Task } from '../task.ts';
import type { Columns } from './column-type.ts';
import type { DeclaredSplits } from './declared-splits.ts';
import { createRulePreprocessor, type Rule } from './rule.ts';

/** A set that the hub does not have: the user brings the file. */
export interface GivenSource {
  readonly kind: 'given';
  readonly format: SourceFormat;
  readonly quotes: boolean;
  /** Where the set is published and how to make its file, in one or two sentences. */
  readonly how: string;
}

export interface ExmixTask {
  readonly name: string;
  /** Family of the paper: CLS, NLI, RC, CBQA, CMNS, SUM, DLG, SEM, or `OTHER:` and a word. */
  readonly family: string;
  readonly citation: string;
  /** Training examples after preprocessing. */
  readonly numExamples: number;
  /** Set if only the total of a group of tasks is known. The size is then an equal share of it. */
  readonly isSizeEstimated?: true;
  readonly source: HubSource | GivenSource;
  /** The columns that the rule reads, with their types in the source. */
  readonly columns: Columns;
  readonly rule: Rule;
  readonly splits: DeclaredSplits;
  readonly evaluation: DeclaredJudgement;
  readonly confidence: 'high' | 'low';
  readonly note: string;
}

/** Metrics, and what they need. The labels are those of the rule, unless the evaluation has its own. */
export interface DeclaredJudgement {
  readonly metrics: readonly MetricName[];
  /** Left out: the default of `checkEvaluation`. */
  readonly postprocess?: PostprocessorName;
  readonly labels?: readonly string[];
  readonly references?: References;
  readonly fields?: Readonly<Record<string, string>>;
}

/** Parquet files of a set on the Hugging Face hub, from its repository or from its converted branch. */
export function hub(dataset: string, config?: string, split = 'train', more: Partial<HubSource> = {}): HubSource {
  return { kind: 'hub', dataset, ...(config === undefined ? {} : { config }), split, ...more };
}

/** A file that the user brings. @param quotes csv and tsv: `"` quotes a field */
export function given(format: SourceFormat, how: string, { quotes = false } = {}): GivenSource {
  return { kind: 'given', format, quotes, how };
}

/** The file name in the folder `given:` of a mixture, e.g. `cogs.tsv`, `cogs.validation.tsv`. */
export function givenFileName(name: string, { format }: GivenSource, split?: string): string {
  return `${name}${split === undefined ? '' : `.${split}`}.${format === 'text' ? 'txt' : format}`;
}

/** Checks the declaration of the table. */
export function judgementOf({ name, rule, evaluation }: ExmixTask): Evaluation {
  const { references, fields = {}, metrics, postprocess, labels } = evaluation;
  const ownLabels = rule.labels.length === 0 ? undefined : rule.labels;
  const checked = checkEvaluation({ metrics, postprocess, labels: labels ?? ownLabels, fields: Object.keys(fields) });
  assertInvariant(checked.ok, `the table's ${name}: ${checked.ok ? '' : JSON.stringify(checked.problems)}`);
  return { ...checked.evaluation, ...(references === undefined ? {} : { references }), fields };
}

export function toTask(task: ExmixTask, source: SourceSpec, splits: EvaluationSplits, name = task.name): Task {
  const preprocessor = createRulePreprocessor(task.rule, task.columns);
  return { name, family: task.family, source, preprocessor, splits, evaluation: judgementOf(task) };
}
