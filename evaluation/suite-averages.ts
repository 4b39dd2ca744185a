/**
 * Averages of suites of which every task was evaluated: the mean of a task's figures, then the mean over tasks. Pure.
 *
 * Sources: GLUE without WNLI and SuperGLUE without the diagnostic sets, as T5 averages them (t5 eval_utils); Rainbow's six sets.
 */
import { suiteAverage } from './metrics/averages.ts';
import { TEACHER_FORCING, type Results, type SetResult } from './results.ts';

const SUITES: Readonly<Record<string, readonly string[]>> = {
  glue: ['cola', 'sst2', 'mrpc', 'qqp', 'stsb', 'mnli', 'qnli', 'rte'].map((name) => `glue_${name}`),
  super_glue: ['boolq', 'cb', 'copa', 'multirc', 'record', 'rte', 'wic', 'wsc'].map((name) => `super_glue_${name}`),
  rainbow: ['anli', 'cosmosqa', 'hellaswag', 'physicaliqa', 'socialiqa', 'winogrande'].map((name) => `rainbow_${name}`),
};

/** Sets of one task are one task, as MNLI's matched and mismatched. A figure that is not defined makes its averages undefined. */
export function averagesOf(sets: readonly SetResult[]): Results['averages'] {
  const averages: Results['averages'] = {};
  for (const [suite, tasks] of Object.entries(SUITES)) {
    const figures = tasks.map((task) => [task, figuresOf(sets.filter((set) => set.task === task))] as const);
    if (figures.some(([, found]) => Object.keys(found).length === 0)) continue;
    const { perTask, average } = suiteAverage(Object.fromEntries(figures));
    const defined = (value: number): number | null => (Number.isNaN(value) ? null : value);
    averages[suite] = {
      perTask: Object.fromEntries(Object.entries(perTask).map(([task, value]) => [task, defined(value)])),
      average: defined(average),
    };
  }
  return averages;
}

/** All figures of a task's metrics, by set, metric and name. */
function figuresOf(sets: readonly SetResult[]): Record<string, number> {
  const entries = sets.flatMap(({ name: set, metrics }) =>
    Object.entries(metrics)
      .filter(([metric]) => metric !== TEACHER_FORCING)
      .flatMap(([metric, { figures }]) =>
        Object.entries(figures).map(([name, { score }]) => [`${set} ${metric} ${name}`, score ?? NaN] as const),
      ),
  );
  return Object.fromEntries(entries);
}
