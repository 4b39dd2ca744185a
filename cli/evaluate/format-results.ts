/** Results of an evaluation, and of a comparison, as tables for a terminal. Pure. */
import type { SetComparison } from '../../evaluation/compare-results.ts';
import { TEACHER_FORCING, type Results, type SetResult } from '../../evaluation/results.ts';
import { formatNumber, formatTable, type Cell } from '../text-table.ts';
import { timeKey, type Times } from './result-files.ts';

/**
 * One figure of a metric that has one of its own name, as BLEU; of a set that is judged by metrics the loss besides. The rest is in results.json.
 * Where a set was compared with train, two columns more: examples that train has too, and the score without them.
 */
export function formatResultTable({ sets, averages }: Pick<Results, 'sets' | 'averages'>, times: Times): string {
  const isCompared = sets.some(({ withoutLeaked }) => withoutLeaked !== undefined);
  const rows = sets.flatMap((set) => rowsOf(set, times, isCompared));
  const head = ['task', 'metric', 'score', '± error', 'n', 'truncated', 'invalid', 'examples/s'];
  if (isCompared) head.push('leaked', 'score without');
  const lines = Object.entries(averages).map(
    ([suite, { average }]) => `${suite}: average ${average === null ? 'not defined' : formatScore(average)}\n`,
  );
  return formatTable(head, rows) + lines.join('');
}

function rowsOf(set: SetResult, times: Times, isCompared: boolean): Cell[][] {
  const { task, name, split, numExamples, numCut, numInvalid, metrics, withoutLeaked } = set;
  const label = name === split ? task : `${task}/${name}`;
  const time = times[timeKey(set)];
  const perSecond = time === undefined || time.ms === 0 ? '' : formatNumber((1000 * time.numExamples) / time.ms);
  return Object.entries(metrics).flatMap(([metric, { figures, numUnits }]) =>
    Object.entries(figures)
      .filter(([figure]) => isShown(set, metric, figure))
      .map(([figure, { score, standardError }]): Cell[] => {
        const isOfText = metric === TEACHER_FORCING;
        const of = isOfText || figure === metric ? figure : `${metric} ${figure}`;
        const counted = numUnits === numExamples ? formatNumber(numExamples) : `${formatNumber(numUnits)} groups`;
        const invalid = isOfText || numInvalid === null ? '' : formatNumber(numInvalid);
        const row = [label, of, formatScore(score), formatScore(standardError), counted, formatNumber(numCut), invalid, perSecond]; // prettier-ignore
        if (!isCompared) return row;
        if (withoutLeaked === undefined) return [...row, '', 'not compared'];
        const without = withoutLeaked.metrics[metric]?.figures[figure]?.score ?? null;
        return [...row, formatNumber(withoutLeaked.numLeaked), formatScore(without)];
      }),
  );
}

function isShown({ metrics, evaluation }: SetResult, metric: string, figure: string): boolean {
  if (metric === TEACHER_FORCING) return evaluation === null || figure === 'loss';
  return figure === metric || metrics[metric]!.figures[metric] === undefined;
}

function formatScore(value: number | null): string {
  if (value === null || Number.isNaN(value)) return 'not defined';
  return value !== 0 && Math.abs(value) < 0.1 ? value.toPrecision(2) : value.toFixed(2);
}

/** @param most changed examples that are shown of each set */
export function formatComparison(comparisons: readonly SetComparison[], most: number): string {
  const rows = comparisons.flatMap(({ task, name, figures }) =>
    figures.map(({ metric, figure, a, b, difference, low, high, verdict }): Cell[] => [
      `${task}/${name}`,
      metric === TEACHER_FORCING || metric === figure ? figure : `${metric} ${figure}`,
      formatScore(a),
      formatScore(b),
      formatDifference(difference),
      Number.isNaN(low) ? 'not defined' : `${formatDifference(low)} to ${formatDifference(high)}`,
      verdict,
    ]),
  );
  const changes = comparisons.map((comparison) => formatChanges(comparison, most)).join('');
  return `${formatTable(['set', 'metric', 'A', 'B', 'B − A', '95 % interval', ''], rows)}${changes}`;
}

function formatChanges({ task, name, changed, numExamples }: SetComparison, most: number): string {
  const head = `${task}/${name}: ${formatNumber(changed.length)} of ${formatNumber(numExamples)} predictions changed\n`;
  const shown = changed.slice(0, most).map(({ id, references, a, b }) => {
    const [wanted] = references;
    return `  example ${id}: ${JSON.stringify(a)} → ${JSON.stringify(b)}, expected ${JSON.stringify(wanted ?? '')}\n`;
  });
  return head + shown.join('');
}

function formatDifference(value: number): string {
  if (Number.isNaN(value)) return 'not defined';
  const text = formatScore(value);
  return value > 0 ? `+${text}` : text;
}
