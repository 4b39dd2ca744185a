/**
 * T5's span corruption: a segment of text → inputs with sentinels instead of the noise, targets with the noise between
 * sentinels.
 *
 * Definition: `random_spans_noise_mask`, `noise_span_to_unique_sentinel` and `nonnoise_span_to_unique_sentinel` of
 * text-to-text-transfer-transformer 0.9.4. Runs of text and noise alternate, text first, noise last. The i-th gap has
 * the sentinel firstSentinel − i on both sides. No sentinel ends the targets. Both sides end with EOS, which all
 * lengths here count. T5 counts noise tokens in float32 in the mask, and in float64 in its length rule; both round half
 * to even. We keep this.
 * Assumption: the random numbers are ours (a counter stream named by seed, task, epoch, example). The splits have T5's
 * distribution (all compositions are equally likely), but they are not the same splits.
 */

import { TrainerError } from '../../shared/errors.ts';
import type { RandomStream } from '../../shared/random.ts';

const EOS = 1;
/** T5's vocabulary ends with 100 sentinels: <extra_id_0> is the last id. */
const DEFAULT_NUM_SENTINELS = 100;

export interface SpanCorruptionRates {
  /** Fraction of tokens that are noise, in (0, 1). */
  readonly noiseDensity: number;
  /** Mean length of a noise span in tokens, ≥ 1. */
  readonly meanSpanLength: number;
}

const PAPER_CORRUPTION: SpanCorruptionRates = { noiseDensity: 0.15, meanSpanLength: 3 };

export interface DenoisingLengths {
  /** Raw tokens of a full segment. */
  readonly rawLength: number;
  /** Targets of a full segment, EOS included. */
  readonly targetsLength: number;
  readonly noise: number;
  readonly spans: number;
}

/**
 * T5's length rule (`random_spans_helper`): the raw segment that corruption shrinks to `inputsLimit` tokens, EOS
 * included. It neither clamps nor uses the float32 of the mask. So for a few limits (e.g. 8) the mask makes one token
 * more than the rule says. `computeSegmentLength` takes this into account: use it to cut segments.
 * @throws CONFIG_INVALID
 */
export function denoisingLengths(inputsLimit: number, rates: SpanCorruptionRates = PAPER_CORRUPTION): DenoisingLengths {
  checkRates(rates);
  if (!Number.isInteger(inputsLimit) || inputsLimit < 2)
    throw new TrainerError(
      'CONFIG_INVALID',
      `span corruption: expected an inputs length of at least 2 tokens, found ${inputsLimit}; raise it`,
    );
  const measure = (rawLength: number) => {
    const noise = roundHalfEven(rawLength * rates.noiseDensity);
    const spans = roundHalfEven(noise / rates.meanSpanLength);
    return { rawLength, inputsLength: rawLength - noise + spans + 1, targetsLength: noise + spans + 1, noise, spans };
  };
  let rawLength = inputsLimit - 1;
  while (measure(rawLength + 1).inputsLength <= inputsLimit) rawLength += 1;
  const { targetsLength, noise, spans } = measure(rawLength);
  return { rawLength, targetsLength, noise, spans };
}

/**
 * Number of noise tokens and noise spans in the mask of a segment of `rawLength` ≥ 1 tokens. One token counts as two.
 */
export function countNoise(
  rawLength: number,
  rates: SpanCorruptionRates = PAPER_CORRUPTION,
): { noise: number; spans: number } {
  const length = Math.max(rawLength, 2);
  const noise = clamp(roundHalfEven(Math.fround(length * Math.fround(rates.noiseDensity))), 1, length - 1);
  const spans = roundHalfEven(Math.fround(noise / Math.fround(rates.meanSpanLength)));
  // The upper bound is ours: with a density far above the paper's, T5 would need more spans than there are tokens
  // between them.
  return { noise, spans: clamp(spans, 1, Math.min(noise, length - noise)) };
}

/** Exact lengths, EOS included, of the result of `corruptSpans` for a segment of `rawLength` ≥ 1 tokens. */
export function corruptedLengths(
  rawLength: number,
  rates: SpanCorruptionRates = PAPER_CORRUPTION,
): { inputsLength: number; targetsLength: number } {
  const length = Math.max(rawLength, 2);
  const { noise, spans } = countNoise(rawLength, rates);
  const cut = length - rawLength;
  return { inputsLength: length - noise + spans + 1 - cut, targetsLength: noise + spans + 1 - cut };
}

/**
 * Raw tokens of a segment of the corpus: T5's rule, reduced if the corrupted segment does not fit both limits.
 * @throws CONFIG_INVALID if no segment fits, or if a full one needs more sentinels than there are
 */
export function computeSegmentLength(
  limits: { readonly inputsLimit: number; readonly targetsLimit: number },
  rates: SpanCorruptionRates = PAPER_CORRUPTION,
  numSentinels: number = DEFAULT_NUM_SENTINELS,
): number {
  const fits = (rawLength: number) => {
    const { inputsLength, targetsLength } = corruptedLengths(rawLength, rates);
    return inputsLength <= limits.inputsLimit && targetsLength <= limits.targetsLimit;
  };
  let rawLength = denoisingLengths(limits.inputsLimit, rates).rawLength;
  while (rawLength >= 1 && !fits(rawLength)) rawLength -= 1;
  if (rawLength < 1)
    throw new TrainerError(
      'CONFIG_INVALID',
      `span corruption: no segment fits inputs ${limits.inputsLimit} and targets ${limits.targetsLimit}; raise the limits to at least 2`,
    );
  checkSentinels(countNoise(rawLength, rates).spans, rawLength, numSentinels);
  return rawLength;
}

/** Lengths of the runs: nonNoise[0] tokens of text, noise[0] of noise, nonNoise[1] of text, … */
export interface SpanSplits {
  readonly nonNoise: ArrayLike<number>;
  readonly noise: ArrayLike<number>;
}

/** Random splits for a segment of `rawLength` ≥ 1 tokens: all compositions into non-empty runs are equally likely. */
export function drawSplits(
  rawLength: number,
  random: RandomStream,
  rates: SpanCorruptionRates = PAPER_CORRUPTION,
): SpanSplits {
  const { noise, spans } = countNoise(rawLength, rates);
  const noiseRuns = drawComposition(noise, spans, random);
  return { noise: noiseRuns, nonNoise: drawComposition(Math.max(rawLength, 2) - noise, spans, random) };
}

/**
 * Corrupts a segment at the given splits. A segment of one token uses the splits of two, cut to one.
 * @param tokens ids, without EOS
 * @returns ids, both with EOS
 */
export function applySplits(
  tokens: ArrayLike<number>,
  splits: SpanSplits,
  firstSentinel: number,
): { inputs: Int32Array; targets: Int32Array } {
  const numTokens = tokens.length;
  const inputs: number[] = [];
  const targets: number[] = [];
  let at = 0;
  for (let span = 0; span < splits.noise.length; span++) {
    const sentinel = firstSentinel - span;
    const noiseAt = Math.min(numTokens, at + splits.nonNoise[span]!);
    targets.push(sentinel);
    for (; at < noiseAt; at++) inputs.push(tokens[at]!);
    const textAt = Math.min(numTokens, at + splits.noise[span]!);
    if (at < textAt) inputs.push(sentinel);
    for (; at < textAt; at++) targets.push(tokens[at]!);
  }
  inputs.push(EOS);
  targets.push(EOS);
  return { inputs: Int32Array.from(inputs), targets: Int32Array.from(targets) };
}

export interface CorruptionOptions {
  /** Id of <extra_id_0>, the last id of the vocabulary: 32099 for T5. */
  readonly firstSentinel: number;
  readonly numSentinels?: number;
  readonly rates?: SpanCorruptionRates;
}

/**
 * Corrupts a segment at random splits.
 * @param tokens at least one id, without EOS
 * @param random e.g. new RandomStream([seed, hashName('span-corruption'), task, epoch, example])
 * @returns ids, both with EOS, with exactly the lengths of `corruptedLengths(tokens.length)`
 * @throws SHARD_CORRUPT for an empty segment, CONFIG_INVALID if it has more spans than sentinels
 */
export function corruptSpans(
  tokens: ArrayLike<number>,
  random: RandomStream,
  { firstSentinel, numSentinels = DEFAULT_NUM_SENTINELS, rates = PAPER_CORRUPTION }: CorruptionOptions,
): { inputs: Int32Array; targets: Int32Array } {
  if (tokens.length === 0)
    throw new TrainerError(
      'SHARD_CORRUPT',
      'span corruption: expected a segment of at least 1 token, found 0; prepare the corpus again',
    );
  const splits = drawSplits(tokens.length, random, rates);
  checkSentinels(splits.noise.length, tokens.length, numSentinels);
  return applySplits(tokens, splits, firstSentinel);
}

/**
 * Splits `total` into `parts` non-empty runs: a uniform subset of the total − 1 positions between two tokens (Floyd's
 * algorithm).
 */
function drawComposition(total: number, parts: number, random: RandomStream): Int32Array {
  const isCut = new Uint8Array(total);
  for (let top = total - parts + 1; top < total; top++) {
    // `top` runs over the last parts − 1 of the positions 1 … total − 1.
    const place = 1 + random.nextBelow(top);
    isCut[isCut[place] === 1 ? top : place] = 1;
  }
  const runs = new Int32Array(parts);
  let run = 0;
  for (let token = 0; token < total; token++) {
    run += isCut[token]!;
    runs[run] = runs[run]! + 1;
  }
  return runs;
}

/** Python's round(): an exact half rounds to the even neighbour. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const fraction = value - floor;
  if (fraction !== 0.5) return fraction < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

function clamp(value: number, low: number, high: number): number {
  return Math.max(low, Math.min(high, value));
}

function checkRates({ noiseDensity, meanSpanLength }: SpanCorruptionRates): void {
  if (!(noiseDensity > 0 && noiseDensity < 1 && meanSpanLength >= 1))
    throw new TrainerError(
      'CONFIG_INVALID',
      `span corruption: expected a noise density between 0 and 1 and a mean span of at least 1, found ${noiseDensity} and ${meanSpanLength}; correct them`,
    );
}

function checkSentinels(spans: number, rawLength: number, numSentinels: number): void {
  if (spans > numSentinels)
    throw new TrainerError(
      'CONFIG_INVALID',
      `span corruption: a segment of ${rawLength} tokens has ${spans} spans but the vocabulary ${numSentinels} sentinels; shorten the inputs or lengthen the spans`,
    );
}
