/**
 * ROUGE (Lin 2004): n-grams, longest common subsequence, and its summary-level union.
 *
 * Source: rouge_score 0.1.2 RougeScorer; t5.evaluation.metrics rouge (t5 0.9.4), whose corpus figure is a bootstrap median: here it is the mean.
 * GEM's: stemmed, the mean over references left out of the best F of the others. Tokens are runs of a-z and 0-9 in lower case.
 */
import { countCommon, countNgrams } from './ngrams.ts';
import { stem } from './porter-stemmer.ts';
import { checkPaired, meanScorer, type Metric } from './scorer.ts';
import { lcsLength, lcsTable, numberTokens } from './sequence-alignment.ts';

export type RougeType = 'rouge1' | 'rouge2' | 'rougeL' | 'rougeLsum';

/** Fractions of 1. */
export interface RougeScore {
  readonly precision: number;
  readonly recall: number;
  readonly fmeasure: number;
}

export interface RougeOptions {
  readonly stemmer?: boolean;
}

/** Tokens of rouge_score: with a stemmer, only tokens of more than 3 letters are stemmed. */
function rougeTokens(text: string, stemmer = false): string[] {
  const tokens = text.toLowerCase().match(/[a-z0-9]+/gu) ?? [];
  return stemmer ? tokens.map((token) => (token.length > 3 ? stem(token) : token)) : tokens;
}

function scoreOf(numCommon: number, numPredicted: number, numWanted: number): RougeScore {
  const precision = numCommon / Math.max(numPredicted, 1);
  const recall = numCommon / Math.max(numWanted, 1);
  return { precision, recall, fmeasure: precision + recall > 0 ? (2 * precision * recall) / (precision + recall) : 0 };
}

function rougeN(target: readonly string[], prediction: readonly string[], order: number): RougeScore {
  const common = countCommon(countNgrams(target, order), countNgrams(prediction, order));
  const numGrams = (tokens: readonly string[]): number => Math.max(0, tokens.length - order + 1);
  return scoreOf(common, numGrams(prediction), numGrams(target));
}

function rougeL(target: readonly string[], prediction: readonly string[]): RougeScore {
  const [wanted = [], predicted = []] = numberTokens(target, prediction);
  return scoreOf(lcsLength(wanted, predicted), predicted.length, wanted.length);
}

/**
 * The union over predicted sentences of their longest common subsequences with each target sentence, each word counted at most as often as
 * both texts have it. Which subsequence of equal length is taken follows rouge_score's backtracking.
 */
function rougeLsum(target: readonly (readonly string[])[], prediction: readonly (readonly string[])[]): RougeScore {
  const sentences = numberTokens(...target, ...prediction);
  const wanted = sentences.slice(0, target.length);
  const predicted = sentences.slice(target.length);
  const leftWanted = countTokens(wanted.flat());
  const leftPredicted = countTokens(predicted.flat());
  let hits = 0;
  for (const sentence of wanted) {
    const inUnion = new Uint8Array(sentence.length);
    for (const other of predicted) markLcs(sentence, other, inUnion);
    for (const [place, token] of sentence.entries()) {
      const numWanted = leftWanted.get(token) ?? 0;
      const numPredicted = leftPredicted.get(token) ?? 0;
      if (inUnion[place] === 0 || numWanted === 0 || numPredicted === 0) continue;
      hits++;
      leftWanted.set(token, numWanted - 1);
      leftPredicted.set(token, numPredicted - 1);
    }
  }
  return scoreOf(hits, predicted.flat().length, wanted.flat().length);
}

function countTokens(tokens: readonly number[]): Map<number, number> {
  const counts = new Map<number, number>();
  for (const token of tokens) counts.set(token, (counts.get(token) ?? 0) + 1);
  return counts;
}

/** Marks the places of one longest common subsequence in `sentence`: from the end, a step along `other` only if that loses nothing. */
function markLcs(sentence: readonly number[], other: readonly number[], marks: Uint8Array): void {
  const table = lcsTable(sentence, other);
  const width = other.length + 1;
  let row = sentence.length;
  let column = other.length;
  while (row > 0 && column > 0) {
    if (sentence[row - 1] === other[column - 1]) {
      marks[row - 1] = 1;
      row--;
      column--;
    } else if (table[row * width + column - 1]! > (table[(row - 1) * width + column] ?? 0)) column--;
    else row--;
  }
}

/** A text whose tokens are computed once for all types and pairs. */
interface TokenizedText {
  readonly tokens: readonly string[];
  /** Of each line that is not empty. */
  readonly lines: readonly (readonly string[])[];
}

function tokenizeText(text: string, stemmer: boolean): TokenizedText {
  const lines = text.split('\n').filter((line) => line !== '');
  return { tokens: rougeTokens(text, stemmer), lines: lines.map((line) => rougeTokens(line, stemmer)) };
}

function scorePair(target: TokenizedText, prediction: TokenizedText, type: RougeType): RougeScore {
  switch (type) {
    case 'rouge1':
      return rougeN(target.tokens, prediction.tokens, 1);
    case 'rouge2':
      return rougeN(target.tokens, prediction.tokens, 2);
    case 'rougeL':
      return rougeL(target.tokens, prediction.tokens);
    case 'rougeLsum':
      return rougeLsum(target.lines, prediction.lines);
  }
}

/** ROUGE of one pair. Sentences of `rougeLsum` end at a line feed. */
export function rougePair(
  target: string,
  prediction: string,
  type: RougeType,
  { stemmer = false }: RougeOptions = {},
): RougeScore {
  return scorePair(tokenizeText(target, stemmer), tokenizeText(prediction, stemmer), type);
}

/** T5's way to give each sentence a line. */
function separateSentences(text: string): string {
  return text.replaceAll(' . ', ' .\n');
}

/** Means of F over the examples, times 100. T5's `rouge` has no stemmer. @param types by default T5's `rouge1`, `rouge2`, `rougeLsum` */
export function rouge(
  options: RougeOptions = {},
  types: readonly RougeType[] = ['rouge1', 'rouge2', 'rougeLsum'],
): Metric<string> {
  const stemmer = options.stemmer ?? false;
  return (targets, predictions) => {
    checkPaired('rouge', targets, predictions);
    const rows = targets.map((target, at) => {
      const wanted = tokenizeText(separateSentences(target), stemmer);
      const predicted = tokenizeText(separateSentences(predictions[at]!), stemmer);
      return types.map((type) => scorePair(wanted, predicted, type).fmeasure);
    });
    return meanScorer(types, rows, 100);
  };
}

/** The mean of the best values of all but one, for each one left out; the value itself if it is the only one. */
function jackknife(values: readonly number[]): number {
  if (values.length < 2) return values[0] ?? 0;
  const best = values.map((_, left) => Math.max(...values.filter((__, at) => at !== left)));
  return best.reduce((sum, value) => sum + value, 0) / best.length;
}

/** GEM's ROUGE against several references, stemmed: means of F, times 100. GEM-metrics 8162210. */
export const gemRouge: Metric<readonly string[], string> = (targets, predictions) => {
  checkPaired('gem_rouge', targets, predictions);
  const types: readonly RougeType[] = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum'];
  const rows = targets.map((references, at) => {
    const wanted = references.map((reference) => tokenizeText(reference, true));
    const predicted = tokenizeText(predictions[at]!, true);
    return types.map((type) => jackknife(wanted.map((reference) => scorePair(reference, predicted, type).fmeasure)));
  });
  return meanScorer(types, rows, 100);
};
