/**
 * A segment of the denoising text → inputs and targets, by a denoiser of the run. Pure.
 *
 * Definition: a denoiser uses parts of L tokens of a stored segment, the longest parts whose examples fit both limits; ⌊segment / L⌋ parts a
 * segment, one example each. Tokens after the last part are not used by this denoiser (`unusedTokens`). Lengths count the prefix and EOS.
 * Span corruption draws its spans anew in each epoch. Prefix LM splits an example at the same place in each epoch, since the plan knows
 * lengths by example: targets of t tokens, t uniform in 1 … ⌊L/2⌋, so a quarter of the text on average.
 */
import type { Denoiser } from '../../shared/denoisers.ts';
import { TrainerError } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import { corruptedLengths, corruptSpans, countNoise } from './span-corruption.ts';

const EOS = 1;
const PREFIX_LM = hashName('prefix-lm');

export interface DenoiserLimits {
  /** Of a row, tokens. */
  readonly inputs: number;
  readonly targets: number;
  /** Tokens of a stored segment. */
  readonly segmentLength: number;
  readonly numSentinels: number;
}

/** The cut of stored segments into examples of one denoiser. */
export interface DenoiserParts {
  /** Tokens of a part. */
  readonly length: number;
  readonly partsPerSegment: number;
  /** Tokens of a segment that are in no part. */
  readonly unusedTokens: number;
}

export interface ExampleLengths {
  readonly inputs: number;
  readonly targets: number;
}

/** @throws CONFIG_INVALID if no part fits */
export function cutForDenoiser(denoiser: Denoiser, limits: DenoiserLimits): DenoiserParts {
  const numPrefix = prefixOf(denoiser).length;
  for (let length = limits.segmentLength; length >= 2; length--) {
    const { inputs, targets } = longestLengths(denoiser, length);
    const fits = inputs + numPrefix <= limits.inputs && targets <= limits.targets;
    const numSpans = denoiser.kind === 'prefix-lm' ? 0 : countNoise(length, denoiser).spans;
    if (!fits || numSpans > limits.numSentinels) continue;
    const partsPerSegment = Math.floor(limits.segmentLength / length);
    return { length, partsPerSegment, unusedTokens: limits.segmentLength - partsPerSegment * length };
  }
  throw new TrainerError(
    'CONFIG_INVALID',
    `denoiser ${denoiser.name}: no text fits inputs ${limits.inputs} (${numPrefix} of them for the prefix) and targets ${limits.targets}; ` +
      'raise the feature lengths, or lower noiseDensity',
  );
}

/** Of a part of `length` tokens, without the prefix: the most that its examples can have. */
function longestLengths(denoiser: Denoiser, length: number): ExampleLengths {
  if (denoiser.kind === 'prefix-lm') return { inputs: length, targets: Math.floor(length / 2) + 1 };
  const { inputsLength, targetsLength } = corruptedLengths(length, denoiser);
  return { inputs: inputsLength, targets: targetsLength };
}

/** Exact lengths of an example. @param name of the denoiser's task @param length of the part, tokens */
export function denoisedLengths(denoiser: Denoiser, name: string, example: number, length: number): ExampleLengths {
  const numPrefix = prefixOf(denoiser).length;
  if (denoiser.kind === 'prefix-lm') {
    const targets = splitOf(name, example, length);
    return { inputs: numPrefix + length - targets + 1, targets: targets + 1 };
  }
  const { inputsLength, targetsLength } = corruptedLengths(length, denoiser);
  return { inputs: numPrefix + inputsLength, targets: targetsLength };
}

export interface DenoiseInit {
  /** Of the denoiser's task. */
  readonly name: string;
  readonly example: number;
  /** Draws the spans. */
  readonly random: RandomStream;
  readonly firstSentinel: number;
  readonly numSentinels: number;
}

/** @param tokens of the part, without EOS @returns ids with EOS, of exactly the lengths of `denoisedLengths` */
export function denoise(
  denoiser: Denoiser,
  tokens: Int32Array,
  { name, example, random, firstSentinel, numSentinels }: DenoiseInit,
): { readonly inputs: Int32Array; readonly targets: Int32Array } {
  const prefix = prefixOf(denoiser);
  if (denoiser.kind === 'prefix-lm') {
    const split = tokens.length - splitOf(name, example, tokens.length);
    return {
      inputs: Int32Array.from([...prefix, ...tokens.subarray(0, split), EOS]),
      targets: Int32Array.from([...tokens.subarray(split), EOS]),
    };
  }
  const { inputs, targets } = corruptSpans(tokens, random, { firstSentinel, numSentinels, rates: denoiser });
  return { inputs: prefix.length === 0 ? inputs : Int32Array.from([...prefix, ...inputs]), targets };
}

/** Target tokens of a prefix-LM example, without EOS. */
function splitOf(name: string, example: number, length: number): number {
  const random = new RandomStream([PREFIX_LM, hashName(name), example]);
  return 1 + random.nextBelow(Math.max(1, Math.floor(length / 2)));
}

/** @throws CONFIG_INVALID for a prefix whose ids nobody filled in */
function prefixOf({ name, prefix, prefixIds }: Denoiser): readonly number[] {
  if (prefix === '') return [];
  if (prefixIds !== undefined) return prefixIds;
  throw new TrainerError('CONFIG_INVALID', `denoiser ${name}: the prefix ${JSON.stringify(prefix)} has no prefixIds`);
}
