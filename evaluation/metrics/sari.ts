/**
 * SARI (Xu et al. 2016) for simplification: n-grams kept, deleted and added, against source and references; mean over examples, percent.
 *
 * Source: GEM-metrics 8162210 and tensor2tensor, whose recall of KEEP is the repaired one; the one first published is `sari_as_published`.
 * Texts are lower-cased and tokenized by 13a. An empty side counts as 1.
 */
import { tokenize } from './bleu.ts';
import { countNgrams } from './ngrams.ts';
import { checkPaired, meanScorer, type Scorer } from './scorer.ts';

const MAX_ORDER = 4;

export interface SariTarget {
  readonly source: string;
  readonly references: readonly string[];
}

/** `sari` and `sari_as_published`. */
export function sari(targets: readonly SariTarget[], predictions: readonly string[]): Scorer {
  checkPaired('sari', targets, predictions);
  const rows = targets.map(({ source, references }, at) => sentenceSari(source, references, predictions[at]!));
  return meanScorer(['sari', 'sari_as_published'], rows, 100);
}

function words(text: string): string[] {
  const tokens = tokenize(text.toLowerCase(), '13a');
  return tokens.length === 0 ? [''] : tokens;
}

function ratio(part: number, whole: number): number {
  return whole === 0 ? 1 : part / whole;
}

function f1(precision: number, recall: number): number {
  return precision + recall === 0 ? 0 : (2 * precision * recall) / (precision + recall);
}

function sentenceSari(source: string, references: readonly string[], prediction: string): [number, number] {
  const sourceWords = words(source);
  const predictedWords = words(prediction);
  const referenceWords = references.map(words);
  let repaired = 0;
  let published = 0;
  for (let order = 1; order <= MAX_ORDER; order++) {
    const counts = compare(
      countNgrams(sourceWords, order),
      countNgrams(predictedWords, order),
      referenceWords.map((reference) => countNgrams(reference, order)),
    );
    const rest = counts.deletePrecision + f1(counts.addPrecision, counts.addRecall);
    repaired += (f1(counts.keepPrecision, counts.keepRecall) + rest) / 3;
    published += (f1(counts.keepPrecision, counts.keepRecallAsPublished) + rest) / 3;
  }
  return [repaired / MAX_ORDER, published / MAX_ORDER];
}

interface Operations {
  readonly keepPrecision: number;
  readonly keepRecall: number;
  readonly keepRecallAsPublished: number;
  readonly deletePrecision: number;
  readonly addPrecision: number;
  readonly addRecall: number;
}

/** Counts of source and prediction are multiplied by the number of references, those of the references are added up. */
function compare(
  source: ReadonlyMap<string, number>,
  prediction: ReadonlyMap<string, number>,
  references: readonly ReadonlyMap<string, number>[],
): Operations {
  const numReferences = references.length;
  const reference = new Map<string, number>();
  for (const counts of references)
    for (const [gram, count] of counts) reference.set(gram, (reference.get(gram) ?? 0) + count);

  let keepPrecision = 0;
  let keepRecall = 0;
  let keepRecallAsPublished = 0;
  let numKept = 0;
  let numToKeep = 0;
  let sumToKeep = 0;
  let deletePrecision = 0;
  let numDeleted = 0;
  for (const [gram, count] of source) {
    const inSource = count * numReferences;
    const inPrediction = (prediction.get(gram) ?? 0) * numReferences;
    const inReference = reference.get(gram) ?? 0;
    const kept = Math.min(inSource, inPrediction);
    const toKeep = Math.min(inSource, inReference);
    if (toKeep > 0) {
      numToKeep++;
      sumToKeep += toKeep;
    }
    if (kept > 0) {
      numKept++;
      const rightlyKept = Math.min(kept, inReference);
      keepPrecision += rightlyKept / kept;
      if (toKeep > 0) {
        keepRecall += rightlyKept;
        keepRecallAsPublished += rightlyKept / toKeep;
      }
    }
    const deleted = Math.max(0, inSource - inPrediction);
    if (deleted > 0) {
      numDeleted++;
      deletePrecision += Math.max(0, deleted - inReference) / deleted;
    }
  }
  const added = [...prediction.keys()].filter((gram) => !source.has(gram));
  const toAdd = [...reference.keys()].filter((gram) => !source.has(gram));
  const rightlyAdded = added.filter((gram) => reference.has(gram)).length;
  return {
    keepPrecision: ratio(keepPrecision, numKept),
    keepRecall: ratio(keepRecall, sumToKeep),
    keepRecallAsPublished: ratio(keepRecallAsPublished, numToKeep),
    deletePrecision: ratio(deletePrecision, numDeleted),
    addPrecision: ratio(rightlyAdded, added.length),
    addRecall: ratio(rightlyAdded, toAdd.length),
  };
}
