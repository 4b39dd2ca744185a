/**
 * The denoisers of a run: how segments of the denoising text become inputs and targets, and how often each is drawn.
 *
 * Source: T5 (span corruption; prefix LM), UL2 (arXiv 2205.05131, section 3.1 and table 1). A recollection of UL2's figures: seven denoisers,
 * R (3, 0.15), R (8, 0.15), S, X (3, 0.5), X (8, 0.5), X (64, 0.15), X (64, 0.5) as (mean span, corrupted share), with the mode texts below.
 * The rates are those of the public FAT5: a third S, a third R, a third X.
 */
import { z } from 'zod';
import { DECIDES_BITS } from './config/bits.ts';

/** Most denoisers of a run. */
const MAX_DENOISERS = 32;

const common = {
  /** Part of the name of its task: `<denoising task>.<name>`. */
  name: z.string().regex(/^[a-z0-9][a-z0-9_-]*$/u),
  /** Its draws are in proportion to it. R (`denoisingRatio`) is the ratio of all denoisers to the supervised tasks. */
  rate: z.number().positive().default(1),
  /** A text in front of the inputs; '' for none. */
  prefix: z.string().default(''),
  /** Ids of the prefix, which exmix fills in by the mixture's tokenizer. */
  prefixIds: z.array(z.int().nonnegative()).max(64).optional(),
};

const spanCorruption = z.strictObject({
  kind: z.literal('span-corruption'),
  ...common,
  /** Share of the tokens that are noise. */
  noiseDensity: z.number().gt(0).lt(1).default(0.15),
  /** Of a noise span, tokens. */
  meanSpanLength: z.number().min(1).default(3),
});

/** The model continues a text. The split point is uniform, so that a quarter of a text is targets on average (UL2). */
const prefixLm = z.strictObject({ kind: z.literal('prefix-lm'), ...common });

const denoiser = z.discriminatedUnion('kind', [spanCorruption, prefixLm]);
export type Denoiser = z.output<typeof denoiser>;

const list = z
  .array(denoiser)
  .min(1)
  .max(MAX_DENOISERS)
  .refine((all) => new Set(all.map(({ name }) => name)).size === all.length, 'expected distinct names');

export const denoisersSchema = z.union([z.literal('ul2').meta(DECIDES_BITS), list.meta(DECIDES_BITS)]);
export type Denoisers = z.output<typeof denoisersSchema>;

const UL2: readonly Denoiser[] = [
  spans('r3', 3, 0.15, '[NLU]', 0.165),
  spans('r8', 8, 0.15, '[NLU]', 0.165),
  { kind: 'prefix-lm', name: 's', rate: 0.34, prefix: '[S2S]' },
  spans('x3', 3, 0.5, '[NLG]', 0.0825),
  spans('x8', 8, 0.5, '[NLG]', 0.0825),
  spans('x64-sparse', 64, 0.15, '[NLG]', 0.0825),
  spans('x64', 64, 0.5, '[NLG]', 0.0825),
];

function spans(name: string, meanSpanLength: number, noiseDensity: number, prefix: string, rate: number): Denoiser {
  return { kind: 'span-corruption', name, rate, prefix, noiseDensity, meanSpanLength };
}

export function listDenoisers(denoisers: Denoisers): readonly Denoiser[] {
  return denoisers === 'ul2' ? UL2 : denoisers;
}
