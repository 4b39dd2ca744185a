/**
 * Metrics of labels: accuracy, F1 in its variants, Matthews' correlation.
 *
 * Sources: t5.evaluation.metrics (t5 0.9.4), sklearn.metrics (1.9). A class is any value that `===` can compare; -1 means a text that names no
 * label (postprocess.ts). Figures are times 100 where T5's are.
 */
import { checkPaired, meanScorer, sumScorer, type Metric, type Scorer, type Scores } from './scorer.ts';

type Label = number | string | boolean;

/** Share of equal labels, times 100. t5 `accuracy`. */
export const accuracy: Metric<Label> = (targets, predictions) => {
  checkPaired('accuracy', targets, predictions);
  return meanScorer(
    ['accuracy'],
    targets.map((target, at) => [target === predictions[at] ? 1 : 0]),
    100,
  );
};

/** Share of equal texts, times 100; semantic parsing. t5 `sequence_accuracy`. */
export const sequenceAccuracy: Metric<string> = (targets, predictions) => {
  checkPaired('sequence_accuracy', targets, predictions);
  return meanScorer(
    ['sequence_accuracy'],
    targets.map((target, at) => [target === predictions[at] ? 1 : 0]),
    100,
  );
};

/** 100 if each prediction equals its target, else 0. t5 `all_match`. */
export const allMatch: Metric<Label> = (targets, predictions) => {
  checkPaired('all_match', targets, predictions);
  return sumScorer(
    targets.map((target, at) => [target === predictions[at] ? 0 : 1]),
    1,
    ([numWrong = 0]) => ({ exact_match: numWrong === 0 ? 100 : 0 }),
  );
};

/** F1 of counts, as a fraction; 0 where no example has or gets the class. */
function f1(truePositives: number, falsePositives: number, falseNegatives: number): number {
  const denominator = 2 * truePositives + falsePositives + falseNegatives;
  return denominator === 0 ? 0 : (2 * truePositives) / denominator;
}

/**
 * A scorer over true positives, false positives and false negatives of each class.
 *
 * @param targets the classes of each example
 * @param predictions the predicted classes of each example
 * @param finish scores of the counts by class
 */
function countScorer(
  classes: readonly Label[],
  targets: readonly (readonly Label[])[],
  predictions: readonly (readonly Label[])[],
  finish: (counts: readonly ClassCounts[], numExactlyRight: number, numExamples: number) => Scores,
): Scorer {
  const width = 3 * classes.length + 1;
  const columns = new Map(classes.map((label, at) => [label, 3 * at]));
  const rows = targets.map((wanted, at) => {
    const row = new Array<number>(width).fill(0);
    const predicted = new Set(predictions[at]);
    const isWanted = new Set(wanted);
    for (const [label, column] of columns) {
      if (isWanted.has(label) && predicted.has(label)) row[column] = 1;
      else if (predicted.has(label)) row[column + 1] = 1;
      else if (isWanted.has(label)) row[column + 2] = 1;
    }
    const known = [...columns.keys()].filter((label) => isWanted.has(label) !== predicted.has(label));
    const unknown = [...predicted].some((label) => !columns.has(label) && !isWanted.has(label));
    row[width - 1] = known.length === 0 && !unknown ? 1 : 0;
    return row;
  });
  return sumScorer(rows, width, (sums, numSelected) => {
    const counts = classes.map((_, at) => ({
      truePositives: sums[3 * at] ?? 0,
      falsePositives: sums[3 * at + 1] ?? 0,
      falseNegatives: sums[3 * at + 2] ?? 0,
    }));
    return finish(counts, sums[width - 1] ?? 0, numSelected);
  });
}

interface ClassCounts {
  readonly truePositives: number;
  readonly falsePositives: number;
  readonly falseNegatives: number;
}

function f1Of(counts: ClassCounts): number {
  return f1(counts.truePositives, counts.falsePositives, counts.falseNegatives);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function microF1(counts: readonly ClassCounts[]): number {
  const total = (key: keyof ClassCounts): number => counts.reduce((sum, one) => sum + one[key], 0);
  return f1(total('truePositives'), total('falsePositives'), total('falseNegatives'));
}

/** F1 of class 1, times 100; a prediction other than 0 and 1 counts as the wrong class (MRPC, QQP). t5 `f1_score_with_invalid`. */
export const f1WithInvalid: Metric<number> = (targets, predictions) => {
  checkPaired('f1_score_with_invalid', targets, predictions);
  const valid = predictions.map((label, at) => (label === 0 || label === 1 ? label : 1 - targets[at]!));
  return countScorer(
    [1],
    targets.map((label) => [label]),
    valid.map((label) => [label]),
    (counts) => ({ f1: 100 * mean(counts.map(f1Of)) }),
  );
};

/** Unweighted mean of the F1 of classes 0 to `numClasses` − 1, times 100; an absent class counts as 0 (CB). t5 `mean_multiclass_f1`. */
export function meanMulticlassF1(numClasses: number): Metric<number> {
  return (targets, predictions) => {
    checkPaired('mean_multiclass_f1', targets, predictions);
    return countScorer(
      Array.from({ length: numClasses }, (_, label) => label),
      targets.map((label) => [label]),
      predictions.map((label) => [label]),
      (counts) => ({ [`mean_${numClasses}class_f1`]: 100 * mean(counts.map(f1Of)) }),
    );
  };
}

/** F1 over named classes (macro, micro, weighted by targets) and accuracy, as fractions. sklearn `f1_score(labels=…, zero_division=0)`. */
export function macroF1(classes: readonly Label[]): Metric<Label> {
  return (targets, predictions) => {
    checkPaired('macro_f1', targets, predictions);
    return countScorer(
      classes,
      targets.map((label) => [label]),
      predictions.map((label) => [label]),
      (counts, numRight, numExamples) => {
        const support = counts.map((one) => one.truePositives + one.falseNegatives);
        const numTargets = support.reduce((sum, one) => sum + one, 0);
        return {
          macro_f1: mean(counts.map(f1Of)),
          micro_f1: microF1(counts),
          weighted_f1:
            numTargets === 0 ? 0 : counts.reduce((sum, one, at) => sum + f1Of(one) * support[at]!, 0) / numTargets,
          accuracy: numRight / numExamples,
        };
      },
    );
  };
}

/** F1 where an example has any number of classes (GoEmotions), as fractions; `subset_accuracy`: all classes right. sklearn on indicators. */
export function multiLabelF1(classes: readonly string[]): Metric<readonly string[]> {
  return (targets, predictions) => {
    checkPaired('multi_label_f1', targets, predictions);
    return countScorer(classes, targets, predictions, (counts, numRight, numExamples) => ({
      macro_f1: mean(counts.map(f1Of)),
      micro_f1: microF1(counts),
      subset_accuracy: numRight / numExamples,
    }));
  };
}

/**
 * Matthews' correlation for any number of classes (R_K of Gorodkin 2004), times 100; 0 where the denominator is 0. -1 is a class of its own.
 * sklearn `matthews_corrcoef`.
 */
export const matthewsCorrcoef: Metric<Label> = (targets, predictions) => {
  checkPaired('matthews_corrcoef', targets, predictions);
  const classes = [...new Set([...targets, ...predictions])];
  return countScorer(
    classes,
    targets.map((label) => [label]),
    predictions.map((label) => [label]),
    (counts, numRight, numExamples) => {
      let covariance = numRight * numExamples;
      let targetVariance = numExamples ** 2;
      let predictionVariance = numExamples ** 2;
      for (const { truePositives, falsePositives, falseNegatives } of counts) {
        const numTargets = truePositives + falseNegatives;
        const numPredicted = truePositives + falsePositives;
        covariance -= numTargets * numPredicted;
        targetVariance -= numTargets ** 2;
        predictionVariance -= numPredicted ** 2;
      }
      const denominator = Math.sqrt(targetVariance * predictionVariance);
      return { matthews_corrcoef: denominator === 0 ? 0 : (100 * covariance) / denominator };
    },
  );
};
