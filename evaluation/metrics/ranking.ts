/**
 * Metrics of scores: areas under curves, the choice among labels by likelihood, the rank of what is relevant.
 *
 * Sources: sklearn.metrics roc_auc_score and average_precision_score, t5.evaluation.metrics auc and rank_classification (t5 0.9.4), MS MARCO's MRR.
 */
import { TrainerError } from '../../shared/errors.ts';
import { checkPaired, meanScorer, selectionScorer, type Metric, type Scorer } from './scorer.ts';

/** An example of two classes with the score that it got for the positive one. */
interface ScoredExample {
  readonly isPositive: boolean;
  readonly score: number;
  readonly weight: number;
}

/**
 * Areas under both curves as fractions, in one pass over the distinct scores from the highest on. `auc-roc` is the weighted share of pairs of a
 * positive and a negative that are in the right order, a tie counted half; NaN if one class is absent. `auc-pr` is average precision,
 * Σ (Rₙ − Rₙ₋₁) Pₙ; 0 without a positive.
 */
function areasUnderCurves(examples: readonly ScoredExample[]): { 'auc-roc': number; 'auc-pr': number } {
  const sorted = [...examples].sort((a, b) => b.score - a.score);
  let positives = 0;
  let negatives = 0;
  let orderedPairs = 0;
  let precisions = 0;
  for (let start = 0; start < sorted.length;) {
    let morePositives = 0;
    let moreNegatives = 0;
    const { score } = sorted[start]!;
    for (; sorted[start]?.score === score; start++) {
      if (sorted[start]!.isPositive) morePositives += sorted[start]!.weight;
      else moreNegatives += sorted[start]!.weight;
    }
    orderedPairs += moreNegatives * (positives + morePositives / 2);
    positives += morePositives;
    negatives += moreNegatives;
    if (morePositives > 0) precisions += (morePositives * positives) / (positives + negatives);
  }
  return {
    'auc-roc': orderedPairs / (positives * negatives),
    'auc-pr': positives === 0 ? 0 : precisions / positives,
  };
}

/** `auc-roc` and `auc-pr`, as fractions. @param threshold targets from it on are positive; left out: targets are 0 or 1 */
export function auc(threshold = 1): Metric<number> {
  return (targets, predictions) => {
    checkPaired('auc', targets, predictions);
    const examples = targets.map((target, at) => ({
      isPositive: target >= threshold,
      score: predictions[at]!,
      weight: 1,
    }));
    return selectionScorer(examples.length, (units) => areasUnderCurves(Array.from(units, (unit) => examples[unit]!)));
  };
}

/** One label of one example that is scored: the row of T5's rank classification. */
export interface RankTarget {
  readonly example: number;
  readonly label: number;
  readonly isCorrect: boolean;
  readonly weight: number;
  /** Target tokens, EOS included. */
  readonly targetLength: number;
}

/**
 * Picks the label with the highest log-likelihood; the first label on a tie. Units are examples.
 * `accuracy`; with two labels also F1 of label 1, `auc-roc`, `auc-pr`, with more their mean F1; all times 100. Where an example has several
 * right labels: accuracy alone. t5 `rank_classification`.
 *
 * @param numClasses the number of labels of each example; left out: it varies, and only accuracy is given
 * @param normalize divides a log-likelihood by the number of target tokens
 * @throws TrainerError METRIC_INPUT_INVALID for a pair [example, label] that comes twice, or an example without all labels
 */
export function rankClassification(
  numClasses: number | undefined,
  normalize: boolean,
): (targets: readonly RankTarget[], logLikelihoods: readonly number[]) => Scorer {
  return (targets, logLikelihoods) => {
    checkPaired('rank_classification', targets, logLikelihoods);
    const rows = targets
      .map((target, at) => {
        const score = logLikelihoods[at]! / (normalize ? target.targetLength : 1);
        return { ...target, score: numClasses === undefined ? score : Math.fround(score) };
      })
      .sort((a, b) => a.example - b.example || a.label - b.label);
    const examples = groupByExample(rows, numClasses).map((labels) => {
      const chosen = labels.reduce((best, row, at) => (row.score > labels[best]!.score ? at : best), 0);
      const rightOnes = labels.flatMap((row, at) => (row.isCorrect ? [at] : []));
      return {
        chosen,
        rightOnes,
        // With a varying number of labels the weight is that of the chosen one.
        weight: labels[numClasses === undefined ? chosen : 0]!.weight,
        isPositive: rightOnes[0] === 1,
        score: numClasses === 2 ? labels[1]!.score - labels[0]!.score : NaN,
      };
    });
    const severalRight = examples.some(({ rightOnes }) => rightOnes.length > 1);
    return selectionScorer(examples.length, (units) => {
      const selected = Array.from(units, (unit) => examples[unit]!);
      const weightOf = (keep: (example: (typeof selected)[number]) => boolean): number =>
        selected.reduce((sum, example) => (keep(example) ? sum + example.weight : sum), 0);
      const accuracy = (100 * weightOf(({ chosen, rightOnes }) => rightOnes.includes(chosen))) / weightOf(() => true);
      if (numClasses === undefined || severalRight) return { accuracy };
      const f1Of = (label: number): number => {
        const right = weightOf(({ chosen, rightOnes }) => chosen === label && rightOnes[0] === label);
        const wrong = weightOf(({ chosen, rightOnes }) => (chosen === label) !== (rightOnes[0] === label));
        return right === 0 ? 0 : (2 * right) / (2 * right + wrong);
      };
      if (numClasses !== 2) {
        const sum = Array.from({ length: numClasses }, (_, label) => f1Of(label)).reduce(
          (total, one) => total + one,
          0,
        );
        return { accuracy, [`mean_${numClasses}class_f1`]: (100 * sum) / numClasses };
      }
      const areas = areasUnderCurves(selected);
      return { accuracy, f1: 100 * f1Of(1), 'auc-roc': 100 * areas['auc-roc'], 'auc-pr': 100 * areas['auc-pr'] };
    });
  };
}

type ScoredLabel = RankTarget & { readonly score: number };

function groupByExample(rows: readonly ScoredLabel[], numClasses: number | undefined): ScoredLabel[][] {
  const groups: ScoredLabel[][] = [];
  for (const row of rows) {
    const group = groups.at(-1);
    const last = group?.at(-1);
    if (group === undefined || last?.example !== row.example) groups.push([row]);
    else if (last.label === row.label) {
      throw new TrainerError(
        'METRIC_INPUT_INVALID',
        `rank_classification: expected each label of an example once, found label ${row.label} of example ${row.example} twice`,
      );
    } else group.push(row);
  }
  const odd = numClasses === undefined ? undefined : groups.find((group) => group.length !== numClasses);
  if (odd !== undefined) {
    throw new TrainerError(
      'METRIC_INPUT_INVALID',
      `rank_classification: expected ${numClasses} labels for each example, found ${odd.length} for example ${odd[0]?.example}`,
    );
  }
  return groups;
}

/** Mean over queries of 1 / rank of the first relevant passage: among the first 10 (`mrr@10`, MS MARCO) and among all (`mrr`); 0 without one. */
export function meanReciprocalRank(
  ranked: readonly (readonly number[])[],
  relevant: readonly (readonly number[])[],
): Scorer {
  checkPaired('mrr', relevant, ranked);
  const rows = ranked.map((passages, query) => {
    const wanted = new Set(relevant[query]);
    const rank = passages.findIndex((passage) => wanted.has(passage)) + 1;
    return [rank === 0 || rank > 10 ? 0 : 1 / rank, rank === 0 ? 0 : 1 / rank];
  });
  return meanScorer(['mrr@10', 'mrr'], rows);
}
