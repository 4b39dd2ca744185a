/** Flags of decoding, and how they become settings: a flag, else the model's generation_config.json, else T5's defaults. */
import { join } from 'node:path';
import type { Argv } from 'yargs';
import { z } from 'zod';
import { parseDecodingSettings, type DecodingSettings } from '../../evaluation/decoding/settings.ts';
import { TrainerError } from '../../shared/errors.ts';
import { readIfThere } from '../../shared/small-file.ts';

export interface DecodingFlags {
  'num-beams'?: number | undefined;
  'max-new-tokens'?: number | undefined;
  'min-new-tokens'?: number | undefined;
  'length-penalty'?: number | undefined;
  'early-stopping'?: boolean | undefined;
  'num-return-sequences'?: number | undefined;
  'no-repeat-ngram-size'?: number | undefined;
  'repetition-penalty'?: number | undefined;
  sample?: boolean | undefined;
  temperature?: number | undefined;
  'top-k'?: number | undefined;
  'top-p'?: number | undefined;
  'min-p'?: number | undefined;
  seed?: number | undefined;
}

export function withDecodingFlags<T>(parser: Argv<T>) {
  return parser
    .option('num-beams', { type: 'number', describe: 'Beams of a beam search; 1: greedy' })
    .option('max-new-tokens', { type: 'number', describe: 'Longest output, tokens with EOS; default 128' })
    .option('min-new-tokens', { type: 'number', describe: 'EOS is forbidden before so many tokens' })
    .option('length-penalty', { type: 'number', describe: 'Exponent of the length that divides a score of a beam' })
    .option('early-stopping', { type: 'boolean', describe: 'Ends a beam search when it has as many outputs as beams' })
    .option('num-return-sequences', { type: 'number', describe: 'Outputs for each input, best first' })
    .option('no-repeat-ngram-size', { type: 'number', describe: 'Forbids n-grams that the output has' })
    .option('repetition-penalty', { type: 'number', describe: 'Above 1: tokens of the output become less likely' })
    .option('sample', { type: 'boolean', describe: 'Draws tokens by chance' })
    .option('temperature', { type: 'number', describe: 'Sampling: divides the logits' })
    .option('top-k', { type: 'number', describe: 'Sampling: from the k likeliest tokens; 0: from all' })
    .option('top-p', { type: 'number', describe: 'Sampling: from the likeliest tokens with this mass' })
    .option('min-p', { type: 'number', describe: 'Sampling: from tokens with this share of the best one' })
    .option('seed', { type: 'number', describe: 'Sampling: the same seed gives the same texts' });
}

const generationConfig = z.looseObject({
  num_beams: z.number().nullish(),
  max_new_tokens: z.number().nullish(),
  min_new_tokens: z.number().nullish(),
  length_penalty: z.number().nullish(),
  early_stopping: z.union([z.boolean(), z.literal('never')]).nullish(),
  num_return_sequences: z.number().nullish(),
  no_repeat_ngram_size: z.number().nullish(),
  repetition_penalty: z.number().nullish(),
  do_sample: z.boolean().nullish(),
  temperature: z.number().nullish(),
  top_k: z.number().nullish(),
  top_p: z.number().nullish(),
  min_p: z.number().nullish(),
});
type GenerationConfig = z.output<typeof generationConfig>;

const DEFAULT_MAX_NEW_TOKENS = 128;

/** generation_config.json of a folder; empty if it has none. @throws CONFIG_INVALID */
export async function readGenerationConfig(folder: string): Promise<GenerationConfig> {
  const path = join(folder, 'generation_config.json');
  const text = await readIfThere(path);
  if (text === undefined) return {};
  try {
    return generationConfig.parse(JSON.parse(text));
  } catch (cause) {
    throw new TrainerError('CONFIG_INVALID', `${path}: ${(cause as Error).message}`, { cause });
  }
}

/** Pure. @throws CONFIG_INVALID, also for a flag that the method does not have */
export function resolveDecoding(flags: DecodingFlags, model: GenerationConfig): DecodingSettings {
  const numBeams = flags['num-beams'] ?? model.num_beams ?? 1;
  const isSampled = flags.sample ?? model.do_sample ?? false;
  if (isSampled && numBeams > 1) {
    throw new TrainerError(
      'CONFIG_INVALID',
      `decoding: --sample draws one output, found ${numBeams} beams; give --num-beams 1`,
    );
  }
  const common = {
    maxNewTokens: flags['max-new-tokens'] ?? model.max_new_tokens ?? DEFAULT_MAX_NEW_TOKENS,
    minNewTokens: flags['min-new-tokens'] ?? model.min_new_tokens ?? undefined,
    noRepeatNgramSize: flags['no-repeat-ngram-size'] ?? model.no_repeat_ngram_size ?? undefined,
    repetitionPenalty: flags['repetition-penalty'] ?? model.repetition_penalty ?? undefined,
  };
  const ofBeams = {
    lengthPenalty: flags['length-penalty'] ?? model.length_penalty ?? undefined,
    earlyStopping: flags['early-stopping'] ?? model.early_stopping ?? undefined,
    numReturnSequences: flags['num-return-sequences'] ?? model.num_return_sequences ?? undefined,
  };
  const ofSampling = {
    temperature: flags.temperature ?? model.temperature ?? undefined,
    topK: flags['top-k'] ?? model.top_k ?? undefined,
    topP: flags['top-p'] ?? model.top_p ?? undefined,
    minP: flags['min-p'] ?? model.min_p ?? undefined,
    seed: flags.seed,
  };
  if (!isSampled) refuseFlags(flags, ['temperature', 'top-k', 'top-p', 'min-p', 'seed'], '--sample');
  if (numBeams === 1)
    refuseFlags(flags, ['length-penalty', 'early-stopping', 'num-return-sequences'], '--num-beams above 1');
  if (isSampled) return parseDecodingSettings(given({ method: 'sample' as const, ...common, ...ofSampling }));
  if (numBeams > 1) return parseDecodingSettings(given({ method: 'beam' as const, ...common, numBeams, ...ofBeams }));
  return parseDecodingSettings(given({ method: 'greedy' as const, ...common }));
}

function refuseFlags(flags: DecodingFlags, names: readonly (keyof DecodingFlags)[], needed: string): void {
  const found = names.filter((name) => flags[name] !== undefined);
  if (found.length > 0) {
    throw new TrainerError(
      'CONFIG_INVALID',
      `decoding: ${found.map((name) => `--${name}`).join(', ')} has no effect without ${needed}`,
    );
  }
}

/** Without the settings that are undefined, which have defaults. */
function given<Settings extends object>(settings: Settings): { [Key in keyof Settings]: NonNullable<Settings[Key]> } {
  return Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined)) as never;
}
