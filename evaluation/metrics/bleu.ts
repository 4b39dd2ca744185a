/**
 * Corpus BLEU (Papineni et al. 2002) with sacrebleu's tokenizers and smoothing.
 *
 * Source: sacrebleu 2.6.0 corpus_bleu. T5's `bleu` is `bleu({ tokenizer: 'intl' })`. Scores are times 100.
 */
import { applyRules, MTEVAL_RULES, unescapeEntities, type TextRule } from './mteval-rules.ts';
import { closestLength } from './ngrams.ts';
import { splitWords, trimEnd } from './python-text.ts';
import { checkPaired, sumScorer, type Metric } from './scorer.ts';

export type BleuTokenizer = '13a' | 'intl' | 'char' | 'none';

export interface BleuOptions {
  readonly tokenizer?: BleuTokenizer;
  readonly lowercase?: boolean;
  readonly smoothing?: 'exp' | 'floor' | 'add-k' | 'none';
  /** 0.1 for `floor` and 1 for `add-k` by default. */
  readonly smoothingValue?: number;
  /** Leaves out orders that are longer than the prediction: for single sentences. */
  readonly effectiveOrder?: boolean;
}

const MAX_ORDER = 4;

/** Rules of mteval-v14.pl: punctuation apart unless between digits; symbols apart. */
const RULES_INTL: readonly TextRule[] = [
  [/(\P{N})(\p{P})/gu, '$1 $2 '],
  [/(\p{P})(\P{N})/gu, ' $1 $2'],
  [/(\p{S})/gu, ' $1 '],
];

/** Tokens of one segment. */
export function tokenize(text: string, tokenizer: BleuTokenizer): string[] {
  switch (tokenizer) {
    case '13a': {
      const line = text.replaceAll('<skipped>', '').replaceAll('-\n', '').replaceAll('\n', ' ');
      return splitWords(applyRules(` ${unescapeEntities(line)} `, MTEVAL_RULES));
    }
    case 'intl':
      return splitWords(applyRules(text, RULES_INTL));
    case 'char':
      return splitWords(Array.from(text).join(' '));
    case 'none':
      return splitWords(text);
  }
}

/** Columns of a statistics row: length of the prediction, of the closest reference, then matches and totals of each order. */
const WIDTH = 2 + 2 * MAX_ORDER;

/** `bleu`, `precision1` to `precision4`, `brevity_penalty`, `prediction_length`, `reference_length` (tokens) against any number of references. */
export function bleu(options: BleuOptions = {}): Metric<readonly string[], string> {
  const { tokenizer = '13a', lowercase = false } = options;
  const tokens = (text: string): string[] => tokenize(trimEnd(lowercase ? text.toLowerCase() : text), tokenizer);
  return (targets, predictions) => {
    checkPaired('bleu', targets, predictions);
    const counter = new SegmentCounter();
    const rows = targets.map((references, at) => counter.count(references.map(tokens), tokens(predictions[at]!)));
    return sumScorer(rows, WIDTH, (sums) => {
      const [predictionLength = 0, referenceLength = 0] = sums;
      const matches = sums.slice(2, 2 + MAX_ORDER);
      const totals = sums.slice(2 + MAX_ORDER);
      const penalty =
        predictionLength >= referenceLength
          ? 1
          : predictionLength === 0
            ? 0
            : Math.exp(1 - referenceLength / predictionLength);
      const precisions = smoothedPrecisions(matches, totals, options);
      return {
        bleu: penalty * precisions.mean,
        ...Object.fromEntries(precisions.orders.map((precision, order) => [`precision${order + 1}`, precision])),
        brevity_penalty: penalty,
        prediction_length: predictionLength,
        reference_length: referenceLength,
      };
    });
  };
}

/**
 * Counts of segments. Tokens are numbered, and an n-gram is a number too, made from that of its first n − 1 tokens and its last token: no text
 * is built for it. Tables are kept from segment to segment.
 */
class SegmentCounter {
  readonly #tokens = new Map<string, number>();
  readonly #grams = new PairNumbers();

  /** A row of statistics. */
  count(references: readonly string[][], prediction: readonly string[]): number[] {
    const texts = [prediction, ...references].map((tokens) => this.#number(tokens));
    const matches: number[] = [];
    let grams = texts.map(({ length }) => new Int32Array(length + 1)); // of no tokens, all the same
    for (let order = 1; order <= MAX_ORDER; order++) {
      this.#grams.start(grams.reduce((sum, { length }) => sum + length, 0));
      grams = grams.map((shorter, text) => {
        const longer = new Int32Array(Math.max(0, shorter.length - 1));
        for (let at = 0; at < longer.length; at++)
          longer[at] = this.#grams.numberOf(shorter[at]!, texts[text]![at + order - 1]!);
        return longer;
      });
      matches.push(countClipped(grams, this.#grams.size));
    }
    const lengths = references.map(({ length }) => length);
    const totals = Array.from({ length: MAX_ORDER }, (_, order) => Math.max(0, prediction.length - order));
    return [prediction.length, closestLength(lengths, prediction.length), ...matches, ...totals];
  }

  #number(tokens: readonly string[]): Int32Array {
    const numbers = new Int32Array(tokens.length);
    for (let at = 0; at < numbers.length; at++) {
      const token = tokens[at]!;
      const number = this.#tokens.get(token) ?? this.#tokens.size;
      if (number === this.#tokens.size) this.#tokens.set(token, number);
      numbers[at] = number;
    }
    return numbers;
  }
}

/** Gives each pair of int32 a number from 0. A hash table with open addressing; slots of an earlier start are free. */
class PairNumbers {
  size = 0;
  #starts = 0;
  #firsts = new Int32Array(0);
  #seconds = new Int32Array(0);
  #numbers = new Int32Array(0);
  /** The start in which a slot was used. */
  #used = new Int32Array(0);

  /** Forgets all pairs. @param mostPairs that will come */
  start(mostPairs: number): void {
    this.size = 0;
    this.#starts++;
    if (this.#used.length >= 2 * mostPairs) return;
    const numSlots = 2 ** Math.ceil(Math.log2(2 * mostPairs));
    [this.#firsts, this.#seconds] = [new Int32Array(numSlots), new Int32Array(numSlots)];
    [this.#numbers, this.#used] = [new Int32Array(numSlots), new Int32Array(numSlots)];
  }

  numberOf(first: number, second: number): number {
    const mask = this.#used.length - 1;
    const hash = Math.imul(Math.imul(first, 0x9e3779b1) ^ second, 0x85ebca6b);
    let slot = (hash ^ (hash >>> 15)) & mask;
    while (this.#used[slot] === this.#starts) {
      if (this.#firsts[slot] === first && this.#seconds[slot] === second) return this.#numbers[slot]!;
      slot = (slot + 1) & mask;
    }
    this.#used[slot] = this.#starts;
    this.#firsts[slot] = first;
    this.#seconds[slot] = second;
    this.#numbers[slot] = this.size;
    return this.size++;
  }
}

/** N-grams of the first text that others have, each at most as often as the one of them that has it most. */
function countClipped([prediction, ...references]: readonly Int32Array[], numGrams: number): number {
  const left = new Int32Array(numGrams);
  for (const reference of references) {
    const counts = references.length === 1 ? left : new Int32Array(numGrams);
    for (const gram of reference) counts[gram]!++;
    if (counts !== left) for (const gram of reference) left[gram] = Math.max(left[gram]!, counts[gram]!);
  }
  let matches = 0;
  for (const gram of prediction!) if (left[gram]!-- > 0) matches++;
  return matches;
}

/** Precisions of each order times 100, and their geometric mean. Without any match both are 0, smoothed or not. */
function smoothedPrecisions(
  matches: readonly number[],
  totals: readonly number[],
  { smoothing = 'exp', smoothingValue, effectiveOrder = false }: BleuOptions,
): { orders: number[]; mean: number } {
  const orders = new Array<number>(MAX_ORDER).fill(0);
  if (matches.every((count) => count === 0)) return { orders, mean: 0 };
  let numOrders = MAX_ORDER;
  let halving = 1;
  for (let order = 0; order < MAX_ORDER; order++) {
    const added = smoothing === 'add-k' && order > 0 ? (smoothingValue ?? 1) : 0;
    const match = matches[order]! + added;
    const total = totals[order]! + added;
    if (total === 0) break;
    if (effectiveOrder) numOrders = order + 1;
    if (match > 0) orders[order] = (100 * match) / total;
    else if (smoothing === 'exp') orders[order] = 100 / ((halving *= 2) * total);
    else if (smoothing === 'floor') orders[order] = (100 * (smoothingValue ?? 0.1)) / total;
  }
  const used = orders.slice(0, numOrders);
  const mean = used.includes(0)
    ? 0
    : Math.exp(used.reduce((sum, precision) => sum + Math.log(precision), 0) / numOrders);
  return { orders, mean };
}
