/** `--search`: a run for each learning rate, and the best one by validation. Pure. */
import { scoreOf } from '../../coordinator/checkpoint/validation-score.ts';
import type { ValidationOfStep } from '../../coordinator/validation/validator.ts';
import { formatTable } from '../text-table.ts';

/** `lr=1e-3,1e-4` → [0.001, 0.0001]; undefined for another text. */
export function parseSearch(text: string): readonly number[] | undefined {
  const [, list] = /^lr=(.+)$/u.exec(text) ?? [];
  const rates = (list ?? '').split(',').map(Number);
  const isValid = rates.every((rate) => Number.isFinite(rate) && rate > 0) && new Set(rates).size === rates.length;
  return list !== undefined && isValid ? rates : undefined;
}

export interface SearchedRun {
  readonly rate: number;
  readonly runDir: string;
  /** Its best validation; undefined: it has none. */
  readonly best: ValidationOfStep | undefined;
}

/** The run with the best score: the lowest of a loss, the highest of others; of equal ones the first. Undefined: no run has a score. */
export function bestRun(runs: readonly SearchedRun[]): SearchedRun | undefined {
  const scored = runs.flatMap((run) => {
    const score = run.best === undefined ? undefined : scoreOf(run.best.metric, run.best.tasks);
    return score === undefined ? [] : [{ run, key: score.isLowBest ? -score.value : score.value }];
  });
  const highest = Math.max(...scored.map(({ key }) => key));
  return scored.find(({ key }) => key === highest)?.run;
}

export function describeSearch(runs: readonly SearchedRun[]): string {
  const rows = runs.map(({ rate, runDir, best }) => [
    rate,
    best?.step ?? '-',
    best?.metric ?? '-',
    best?.score?.toFixed(2) ?? '-',
    runDir,
  ]);
  const best = bestRun(runs);
  const verdict =
    best === undefined
      ? 'no run has a validation score'
      : `best by validation: learning rate ${best.rate}, step ${best.best?.step}, ${best.runDir}`;
  return `\n${formatTable(['learning rate', 'best step', 'metric', 'score', 'run'], rows)}${verdict}\n`;
}
