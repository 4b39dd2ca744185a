/**
 * Sampling from the distribution of the next token: temperature, top-k, top-p (Holtzman et al. 2020), min-p, in Transformers' order.
 *
 * The random number of a token is a function of seed, example and position: the same text for any batch and any number of workers.
 */
import { assertInvariant } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import { SingleSearch } from './greedy.ts';
import type { ScoredToken } from './processors.ts';
import type { SamplingSettings } from './settings.ts';

export interface TokenProbability {
  readonly id: number;
  readonly probability: number;
}

type FilterSettings = Pick<SamplingSettings, 'temperature' | 'topK' | 'topP' | 'minP'>;

/** Probabilities of scores, of the largest on, that add up to 1. */
function softmax(scores: readonly number[]): number[] {
  const weights = scores.map((score) => Math.exp(score - scores[0]!));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return weights.map((weight) => weight / sum);
}

/**
 * The tokens that may be drawn, with their probabilities, best first. Ties with the k-th token stay; top-p keeps a token if the mass before it is
 * below p; at least one token stays.
 *
 * @param tokens logits, best first: all tokens, or at least the `topK` best with their ties
 */
export function filterTokens(
  tokens: readonly ScoredToken[],
  { temperature, topK, topP, minP }: FilterSettings,
): TokenProbability[] {
  let kept = tokens.map(({ id, score }) => ({ id, score: score / temperature }));
  if (topK > 0 && topK < kept.length) {
    const least = kept[topK - 1]!.score;
    kept = kept.filter(({ score }) => score >= least);
  }
  const scoresOf = (): number[] => kept.map(({ score }) => score);
  if (topP < 1) {
    let before = 0;
    const numKept = softmax(scoresOf()).findIndex((probability) => {
      if (before >= topP) return true;
      before += probability;
      return false;
    });
    if (numKept !== -1) kept = kept.slice(0, Math.max(1, numKept));
  }
  if (minP > 0) {
    const probabilities = softmax(scoresOf());
    kept = kept.filter((_, at) => at === 0 || probabilities[at]! >= minP * probabilities[0]!);
  }
  const probabilities = softmax(scoresOf());
  return kept.map(({ id }, at) => ({ id, probability: probabilities[at]! }));
}

/** @param example number of the example in its set @param vocabSize without top-k all tokens are candidates */
export function samplingSearch(settings: SamplingSettings, example: number, vocabSize: number): SingleSearch {
  const isCut = settings.topK > 0 && settings.topK < vocabSize;
  // One more than k: a tie with the k-th token is rare, and an exact one is kept.
  return new SingleSearch(settings, isCut ? settings.topK + 1 : vocabSize, (tokens, position) => {
    const random = new RandomStream([settings.seed, hashName('sampling'), example, position]);
    return drawToken(filterTokens(tokens, settings), random.nextFloat());
  });
}

/** The token in whose share of [0, 1) the number lies. */
function drawToken(tokens: readonly TokenProbability[], random: number): number {
  let rest = random;
  for (const { id, probability } of tokens) {
    rest -= probability;
    if (rest < 0) return id;
  }
  const last = tokens.at(-1);
  assertInvariant(last !== undefined, 'a token may be drawn');
  return last.id; // the sum of the probabilities was rounded below 1
}
