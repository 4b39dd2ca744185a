/** The keys of a task that say how it is judged → splits and evaluation. */
import { checkEvaluation, type EvaluationProblem } from '../../shared/task-evaluation.ts';
import type { Evaluation, EvaluationSet, EvaluationSplits, SourceSpec, TrainCut } from './task.ts';

/** A task without a validation set is to be judged on 5 % of its train records. */
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

/** The sets of a task that names at most one source for each split. */
export function buildSplits(validation: SourceSpec | undefined, test: SourceSpec | undefined): EvaluationSplits {
  const testSets: EvaluationSet[] = test === undefined ? [] : [{ name: 'test', source: test }];
  return { validation: [{ name: 'validation', source: validation ?? TRAIN_CUT }], test: testSets };
}
