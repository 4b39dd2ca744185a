/** The keys of a task that say how it is judged → splits and evaluation. */
import { checkEvaluation, type EvaluationProblem } from '../../shared/task-evaluation.ts';
import type { SourceEntry, ValidationEntry } from './mixture-schema.ts';
import { buildSource } from './source-entry.ts';
import type { Evaluation, EvaluationSet, EvaluationSplits, TrainCut } from './task.ts';

/** A task without a validation set is judged on 5 % of its train records. */
export const TRAIN_CUT: TrainCut = { kind: 'cut', oneIn: 20 };

export interface EvaluationEntry {
  readonly metrics?: readonly string[] | undefined;
  readonly postprocess?: string | undefined;
  readonly labels?: readonly string[] | undefined;
  /** The column with all right answers. */
  readonly references?: string | undefined;
  readonly fields?: Readonly<Record<string, string>> | undefined;
}

export type BuiltEvaluation =
  | { readonly ok: true; readonly evaluation: Evaluation }
  | { readonly ok: false; readonly problems: readonly EvaluationProblem[] };

export function buildEvaluation({
  metrics = [],
  postprocess,
  labels,
  references,
  fields = {},
}: EvaluationEntry): BuiltEvaluation {
  const checked = checkEvaluation({ metrics, postprocess, labels, fields: Object.keys(fields) });
  if (!checked.ok) return checked;
  const column = references === undefined ? {} : { references: { path: references } };
  return { ok: true, evaluation: { ...checked.evaluation, ...column, fields } };
}

/** What an entry says of validation and test. */
export interface WrittenSplits {
  readonly validation?: ValidationEntry | undefined;
  readonly test?: SourceEntry | undefined;
}

/** The sets of a task that names at most one source for each split. Without a validation source it has a cut of train. */
export function buildSplits({ validation, test }: WrittenSplits, folder: string): EvaluationSplits {
  return { validation: buildValidation(validation ?? { cut: TRAIN_CUT.oneIn }, folder), test: buildTest(test, folder) };
}

export function buildValidation(entry: ValidationEntry, folder: string): EvaluationSet[] {
  const { cut } = entry;
  if (cut === 'none') return [];
  return [{ name: 'validation', source: cut === undefined ? buildSource(entry, folder) : { kind: 'cut', oneIn: cut } }];
}

export function buildTest(entry: SourceEntry | undefined, folder: string): EvaluationSet[] {
  return entry === undefined ? [] : [{ name: 'test', source: buildSource(entry, folder) }];
}
