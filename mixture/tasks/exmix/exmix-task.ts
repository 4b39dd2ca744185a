/**
 * A row of the table of ExMix's tasks. The table is data; `toTask` makes a `Task` of a row.
 *
 * Definition: confidence is `high` if the set, its size and its place in ExMix agree with public figures. It is `low`
 * if they are from memory or inferred; the note says which.
 */
import type { HubSource, SourceFormat, SourceSpec, Task } from '../task.ts';
import type { Columns } from './column-type.ts';
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
  readonly metrics: readonly string[];
  readonly confidence: 'high' | 'low';
  readonly note: string;
}

/** Parquet files of a set on the Hugging Face hub, from its repository or from its converted branch. */
export function hub(dataset: string, config?: string, split = 'train', more: Partial<HubSource> = {}): HubSource {
  return { kind: 'hub', dataset, ...(config === undefined ? {} : { config }), split, ...more };
}

/** A file that the user brings. @param quotes csv and tsv: `"` quotes a field */
export function given(format: SourceFormat, how: string, { quotes = false } = {}): GivenSource {
  return { kind: 'given', format, quotes, how };
}

/** The file name in the folder `given:` of a mixture, e.g. `cogs.tsv`. */
export function givenFileName(name: string, { format }: GivenSource): string {
  return `${name}.${format === 'text' ? 'txt' : format}`;
}

export function toTask(task: ExmixTask, source: SourceSpec, name = task.name): Task {
  const preprocessor = createRulePreprocessor(task.rule, task.columns);
  return { name, family: task.family, source, preprocessor, metrics: task.metrics };
}
