/**
 * The caption metrics that nlg-eval reports: BLEU-1 to BLEU-4, ROUGE-L, CIDEr; fractions of 1, CIDEr up to 10. Texts are tokens joined by one space.
 *
 * Source: pycocoevalcap 1.2. BLEU has tiny constants in place of smoothing; ROUGE-L has beta 1.2 and takes the best precision and the best
 * recall over the references each for itself; CIDEr is the clipped CIDEr-D with sigma 6, document frequencies from the references given.
 */
import { closestLength, countCommon, countNgrams, maximumCounts } from './ngrams.ts';
import { splitWords } from './python-text.ts';
import { checkPaired, meanScorer, selectionScorer, sumScorer, type Metric, type Scorer } from './scorer.ts';
import { lcsLength, numberTokens } from './sequence-alignment.ts';

const MAX_ORDER = 4;
const TINY = 1e-15;
const SMALL = 1e-9;
const ROUGE_BETA = 1.2;
const CIDER_SIGMA = 6;

/** `bleu1` to `bleu4`, `rougeL`, `cider`; CIDEr is NaN for a single example, whose words have no document frequency. */
export const caption: Metric<readonly string[], string> = (targets, predictions) => {
  checkPaired('caption', targets, predictions);
  const scorers = [captionBleu(targets, predictions), captionRouge(targets, predictions), cider(targets, predictions)];
  return selectionScorer(targets.length, (units) =>
    Object.fromEntries(scorers.flatMap((scorer) => Object.entries(scorer.score(units)))),
  );
};

function captionBleu(targets: readonly (readonly string[])[], predictions: readonly string[]): Scorer {
  const rows = targets.map((references, at) => {
    const prediction = splitWords(predictions[at]!);
    const wanted = references.map(splitWords);
    const row = [
      prediction.length,
      closestLength(
        wanted.map(({ length }) => length),
        prediction.length,
      ),
    ];
    for (let order = 1; order <= MAX_ORDER; order++) {
      const most = maximumCounts(wanted.map((reference) => countNgrams(reference, order)));
      row.push(countCommon(countNgrams(prediction, order), most), Math.max(0, prediction.length - order + 1));
    }
    return row;
  });
  return sumScorer(rows, 2 + 2 * MAX_ORDER, ([predictionLength = 0, referenceLength = 0, ...counts]) => {
    const lengthRatio = (predictionLength + TINY) / (referenceLength + SMALL);
    const penalty = lengthRatio < 1 ? Math.exp(1 - 1 / lengthRatio) : 1;
    let product = 1;
    const scores: Record<string, number> = {};
    for (let order = 1; order <= MAX_ORDER; order++) {
      product *= (counts[2 * order - 2]! + TINY) / (counts[2 * order - 1]! + SMALL);
      scores[`bleu${order}`] = product ** (1 / order) * penalty;
    }
    return scores;
  });
}

function captionRouge(targets: readonly (readonly string[])[], predictions: readonly string[]): Scorer {
  const rows = targets.map((references, at) => {
    const prediction = predictions[at]!.split(' ');
    let precision = 0;
    let recall = 0;
    for (const reference of references) {
      const [wanted = [], predicted = []] = numberTokens(reference.split(' '), prediction);
      const common = lcsLength(wanted, predicted);
      precision = Math.max(precision, common / predicted.length);
      recall = Math.max(recall, common / wanted.length);
    }
    const weight = ROUGE_BETA ** 2;
    return [precision === 0 ? 0 : ((1 + weight) * precision * recall) / (recall + weight * precision)];
  });
  return meanScorer(['rougeL'], rows);
}

/** Weights of the n-grams of one order, and their length as a vector. */
interface TfIdf {
  readonly weights: ReadonlyMap<string, number>;
  readonly norm: number;
}

/** Document frequencies are those of the whole set, also when a part of it is scored. */
function cider(targets: readonly (readonly string[])[], predictions: readonly string[]): Scorer {
  const numDocuments = targets.length;
  const grams = (text: string): Map<string, number>[] => {
    const tokens = splitWords(text);
    return Array.from({ length: MAX_ORDER }, (_, order) => countNgrams(tokens, order + 1));
  };
  const references = targets.map((texts) => texts.map(grams));
  const documentFrequency = new Map<string, number>();
  for (const document of references) {
    const present = new Set(document.flatMap((orders) => orders.flatMap((counts) => [...counts.keys()])));
    for (const gram of present) documentFrequency.set(gram, (documentFrequency.get(gram) ?? 0) + 1);
  }
  const vector = (counts: ReadonlyMap<string, number>): TfIdf => {
    const weights = new Map<string, number>();
    let square = 0;
    for (const [gram, count] of counts) {
      const weight = count * (Math.log(numDocuments) - Math.log(Math.max(1, documentFrequency.get(gram) ?? 0)));
      weights.set(gram, weight);
      square += weight ** 2;
    }
    return { weights, norm: Math.sqrt(square) };
  };
  const numBigrams = (orders: readonly ReadonlyMap<string, number>[]): number =>
    [...(orders[1]?.values() ?? [])].reduce((sum, count) => sum + count, 0);
  const rows = predictions.map((text, at) => {
    const prediction = grams(text);
    const predicted = prediction.map(vector);
    const similarities = references[at]!.map((reference) => {
      const difference = numBigrams(prediction) - numBigrams(reference);
      const penalty = Math.exp(-(difference ** 2) / (2 * CIDER_SIGMA ** 2));
      const cosines = reference.map((counts, order) => clippedCosine(predicted[order], vector(counts)));
      return (penalty * cosines.reduce((sum, cosine) => sum + cosine, 0)) / MAX_ORDER;
    });
    return [(10 * similarities.reduce((sum, one) => sum + one, 0)) / similarities.length];
  });
  if (numDocuments === 1) return meanScorer(['cider'], [[NaN]]);
  return meanScorer(['cider'], rows);
}

function clippedCosine(prediction: TfIdf | undefined, reference: TfIdf): number {
  let product = 0;
  for (const [gram, weight] of prediction?.weights ?? []) {
    const wanted = reference.weights.get(gram) ?? 0;
    product += Math.min(weight, wanted) * wanted;
  }
  const norms = (prediction?.norm ?? 0) * reference.norm;
  return norms === 0 ? product : product / norms;
}
