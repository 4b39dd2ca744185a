/**
 * How text is generated: the options of Transformers' `generate` and of T5X's beam search, checked once.
 *
 * The settings are part of a result's key: two results with equal settings, model and examples are equal.
 */
import * as z from 'zod';
import { TrainerError } from '../../shared/errors.ts';

/** T5's ids: the decoder starts with padding. */
export const START_TOKEN = 0;
export const EOS_TOKEN = 1;

const limits = {
  maxNewTokens: z.int().min(1).max(65_536),
  minNewTokens: z.int().min(0).default(0),
  /** Forbids n-grams of tokens that the hypothesis already has; 0: allowed. */
  noRepeatNgramSize: z.int().min(0).default(0),
  /** Divides positive and multiplies negative scores of tokens that the hypothesis already has (Keskar et al. 2019). */
  repetitionPenalty: z.number().positive().default(1),
  /** Makes EOS the last of `maxNewTokens`. */
  forcedEos: z.boolean().default(false),
};

const greedy = z.strictObject({ method: z.literal('greedy'), ...limits });

/** Transformers' beam search. */
const beam = z.strictObject({
  method: z.literal('beam'),
  ...limits,
  numBeams: z.int().min(1).max(64),
  /** Exponent of the length that a score is divided by. */
  lengthPenalty: z.number().default(1),
  earlyStopping: z.union([z.boolean(), z.literal('never')]).default(false),
  numReturnSequences: z.int().min(1).default(1),
});

/** T5X's beam search: all finished candidates enter, scores are divided by ((5 + n) / 6)^alpha. */
const beamT5x = z.strictObject({
  method: z.literal('beam-t5x'),
  ...limits,
  numBeams: z.int().min(1).max(64),
  alpha: z.number().default(0.6),
  numReturnSequences: z.int().min(1).default(1),
});

/** Sampling: temperature, then top-k, top-p, min-p, as Transformers orders them. */
const sample = z.strictObject({
  method: z.literal('sample'),
  ...limits,
  seed: z.int().min(0).default(0),
  temperature: z.number().positive().default(1),
  /** 0: all tokens. */
  topK: z.int().min(0).default(50),
  topP: z.number().gt(0).max(1).default(1),
  minP: z.number().min(0).max(1).default(0),
});

const schema = z.discriminatedUnion('method', [greedy, beam, beamT5x, sample]);

export type DecodingSettings = z.output<typeof schema>;
export type GreedySettings = z.output<typeof greedy>;
export type BeamSettings = z.output<typeof beam>;
export type T5xBeamSettings = z.output<typeof beamT5x>;
export type SamplingSettings = z.output<typeof sample>;

/** Fills in defaults. @throws TrainerError CONFIG_INVALID with each problem */
export function parseDecodingSettings(settings: z.input<typeof schema>): DecodingSettings {
  const parsed = schema.safeParse(settings);
  const problems = parsed.success ? contradictions(parsed.data) : parsed.error.issues.map(describeIssue);
  if (!parsed.success || problems.length > 0)
    throw new TrainerError('CONFIG_INVALID', `decoding: ${problems.join('; ')}`);
  return parsed.data;
}

function describeIssue({ path, message }: z.core.$ZodIssue): string {
  return path.length === 0 ? message : `${path.join('.')}: ${message}`;
}

function contradictions(settings: DecodingSettings): string[] {
  const problems: string[] = [];
  if (settings.minNewTokens > settings.maxNewTokens) {
    problems.push(`minNewTokens ${settings.minNewTokens} is above maxNewTokens ${settings.maxNewTokens}`);
  }
  if ('numReturnSequences' in settings && settings.numReturnSequences > settings.numBeams) {
    problems.push(`numReturnSequences ${settings.numReturnSequences} is above numBeams ${settings.numBeams}`);
  }
  return problems;
}
