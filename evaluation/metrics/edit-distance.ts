/** Word-level edit distances. Source: t5.evaluation.metrics edit_distance (t5 0.9.4). */
import { WORD_CHARACTERS } from './python-text.ts';
import { checkPaired, selectionScorer, type Metric } from './scorer.ts';
import { levenshtein } from './sequence-alignment.ts';

const SEPARATOR = new RegExp(`[^${WORD_CHARACTERS}]`, 'u');

/** `min_edit`, `max_edit`, `mean_edit`, `median_edit`, `sum_edit`, in words. Two separators in a row leave an empty word that counts. */
export function editDistance(lowercase = true): Metric<string> {
  const words = (text: string): string[] => (lowercase ? text.toLowerCase() : text).split(SEPARATOR);
  return (targets, predictions) => {
    checkPaired('edit_distance', targets, predictions);
    const distances = targets.map((target, at) => levenshtein(words(predictions[at]!), words(target)));
    return selectionScorer(distances.length, (units) => {
      const sorted = Array.from(units, (unit) => distances[unit]!).sort((a, b) => a - b);
      const sum = sorted.reduce((total, distance) => total + distance, 0);
      const middle = sorted.length / 2;
      return {
        min_edit: sorted[0] ?? NaN,
        max_edit: sorted.at(-1) ?? NaN,
        mean_edit: sum / sorted.length,
        median_edit: ((sorted[Math.ceil(middle) - 1] ?? NaN) + (sorted[Math.floor(middle)] ?? NaN)) / 2,
        sum_edit: sum,
      };
    });
  };
}
