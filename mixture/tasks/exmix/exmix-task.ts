/**
 * A row of the table of ExMix's tasks. The table is data: `Task`s are made of its rows by `toTask`.
 *
 * `high` confidence: the set, its size and its place in ExMix agree with public figures; `low`: recalled or inferred, see the note.
 */
import type { HubSource, SourceFormat, SourceSpec, Task } from '../task.ts';
import type { Columns } from './column-type.ts';
import { createRulePreprocessor, type Rule } from './rule.ts';

/** A set without a home on the hub: the user brings the file. */
export interface GivenSource {
  readonly kind: 'given';
  readonly format: SourceFormat;
  readonly quotes: boolean;
  /** Where the set is published and how its file is made, in one or two sentences. */
  readonly how: string;
}

export interface ExmixTask {
  readonly name: string;
  /** Family of the paper: CLS, NLI, RC, CBQA, CMNS, SUM, DLG, SEM, or `OTHER:` and a word. */
  readonly family: string;
  readonly citation: string;
  /** Training examples after preprocessing. */
  readonly numExamples: number;
  /** Where only the sum over a group of tasks is known, and this one's part is an equal share. */
  readonly isSizeEstimated?: true;
  readonly source: HubSource | GivenSource;
  /** Columns that the rule reads, with their types in the source. */
  readonly columns: Columns;
  readonly rule: Rule;
  readonly metrics: readonly string[];
  readonly confidence: 'high' | 'low';
  readonly note: string;
}

/** Parquet files of a set on the Hugging Face hub: those of the repository, or of its converted branch. */
export function hub(dataset: string, config?: string, split = 'train', more: Partial<HubSource> = {}): HubSource {
  return { kind: 'hub', dataset, ...(config === undefined ? {} : { config }), split, ...more };
}

/** A file that the user gives. @param quotes csv and tsv: `"` quotes a field */
export function given(format: SourceFormat, how: string, { quotes = false } = {}): GivenSource {
  return { kind: 'given', format, quotes, how };
}

/** The file name under `given:` of a mixture, e.g. `cogs.tsv`. */
export function givenFileName(name: string, { format }: GivenSource): string {
  return `${name}.${format === 'text' ? 'txt' : format}`;
}

export function toTask(task: ExmixTask, source: SourceSpec, name = task.name): Task {
  const preprocessor = createRulePreprocessor(task.rule, task.columns);
  return { name, family: task.family, source, preprocessor, metrics: task.metrics };
}
