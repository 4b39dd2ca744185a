/**
 * chrF, the F score of character n-grams (Popović 2015), and chrF++ with word n-grams (2017). Source: sacrebleu 2.6.0 CHRF. Times 100.
 */
import { countCommon, countNgrams } from './ngrams.ts';
import { ASCII_PUNCTUATION, splitWords } from './python-text.ts';
import { checkPaired, sumScorer, type Metric } from './scorer.ts';

export interface ChrfOptions {
  readonly characterOrder?: number;
  /** 0: chrF, 2: chrF++. */
  readonly wordOrder?: number;
  /** Weight of recall. */
  readonly beta?: number;
  readonly lowercase?: boolean;
  /** Keeps white space in character n-grams. */
  readonly whitespace?: boolean;
  /** Averages F scores of all orders, those without n-grams as 1e-16 (Moses, NLTK). */
  readonly epsSmoothing?: boolean;
}

const PUNCTUATION = new Set(ASCII_PUNCTUATION);

/** Words with a punctuation mark at their end, else at their start, as a word of its own. */
function separatePunctuation(text: string): string[] {
  return splitWords(text).flatMap((word) => {
    const characters = Array.from(word);
    if (characters.length === 1) return [word];
    const [first = ''] = characters;
    const last = characters.at(-1) ?? '';
    if (PUNCTUATION.has(last)) return [characters.slice(0, -1).join(''), last];
    if (PUNCTUATION.has(first)) return [first, characters.slice(1).join('')];
    return [word];
  });
}

/** `chrf` against the best of any number of references. */
export function chrf(options: ChrfOptions = {}): Metric<readonly string[], string> {
  const { characterOrder = 6, wordOrder = 0, lowercase = false, whitespace = false } = options;
  const numOrders = characterOrder + wordOrder;
  const ngrams = (text: string): Map<string, number>[] => {
    const cased = lowercase ? text.toLowerCase() : text;
    const characters = Array.from(whitespace ? cased : splitWords(cased).join(''));
    const words = wordOrder === 0 ? [] : separatePunctuation(cased);
    return [
      ...Array.from({ length: characterOrder }, (_, order) => countNgrams(characters, order + 1)),
      ...Array.from({ length: wordOrder }, (_, order) => countNgrams(words, order + 1)),
    ];
  };
  return (targets, predictions) => {
    checkPaired('chrf', targets, predictions);
    const rows = targets.map((references, at) => {
      const predicted = ngrams(predictions[at]!);
      let best: number[] = new Array<number>(3 * numOrders).fill(0);
      let bestScore = -1;
      for (const reference of references) {
        const row = matchStatistics(predicted, ngrams(reference));
        const score = fScore(row, numOrders, options);
        if (score > bestScore) [best, bestScore] = [row, score];
      }
      return best;
    });
    return sumScorer(rows, 3 * numOrders, (sums) => ({ chrf: fScore(sums, numOrders, options) }));
  };
}

/** For each order: n-grams of the prediction (0 if the reference has none), of the reference, and common ones. */
function matchStatistics(predicted: readonly Map<string, number>[], wanted: readonly Map<string, number>[]): number[] {
  const total = (counts: ReadonlyMap<string, number>): number =>
    [...counts.values()].reduce((sum, count) => sum + count, 0);
  return predicted.flatMap((counts, order) => {
    const reference = wanted[order] ?? new Map<string, number>();
    return [reference.size === 0 ? 0 : total(counts), total(reference), countCommon(counts, reference)];
  });
}

function fScore(
  statistics: readonly number[],
  numOrders: number,
  { beta = 2, epsSmoothing = false }: ChrfOptions,
): number {
  const epsilon = 1e-16;
  const factor = beta ** 2;
  let sumOfScores = 0;
  let precisions = 0;
  let recalls = 0;
  let effectiveOrders = 0;
  for (let order = 0; order < numOrders; order++) {
    const [numPredicted = 0, numWanted = 0, numCommon = 0] = statistics.slice(3 * order, 3 * order + 3);
    const precision = numPredicted > 0 ? numCommon / numPredicted : epsilon;
    const recall = numWanted > 0 ? numCommon / numWanted : epsilon;
    const denominator = factor * precision + recall;
    sumOfScores += denominator > 0 ? ((1 + factor) * precision * recall) / denominator : epsilon;
    if (numPredicted > 0 && numWanted > 0) {
      precisions += precision;
      recalls += recall;
      effectiveOrders++;
    }
  }
  if (epsSmoothing) return (100 * sumOfScores) / numOrders;
  if (precisions + recalls === 0) return 0;
  const precision = precisions / effectiveOrders;
  const recall = recalls / effectiveOrders;
  return (100 * (1 + factor) * precision * recall) / (factor * precision + recall);
}
