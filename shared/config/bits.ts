/**
 * Whether a setting decides bits of the parameters. Every leaf of the configuration says it, by `.meta(…)` at its place in the schema.
 * load-config.ts derives the numerics hash from it, and with it the settings that a resume may change.
 */

/** Another value gives other bits: part of the numerics hash; a resume refuses a change (CHECKPOINT_MISMATCH). */
export const DECIDES_BITS = { bits: 'decides' } as const;
/**
 * Decides bits, and is younger than recorded hashes: at its default it is left out of the numerics hash, so that configurations that do not
 * name it keep their hash. For every new setting whose default trains the bits of before.
 */
export const DECIDES_BITS_IF_SET = { bits: 'decides-if-set' } as const;
/** Names data whose bytes decide bits: a resume compares the hash of the prepared mixture (MIXTURE_MISMATCH). */
export const BITS_BY_MIXTURE = { bits: 'mixture-hash' } as const;
/** Decides bits through the engine: a resume compares the engine fingerprint and warns (`engine changed`). */
export const BITS_BY_ENGINE = { bits: 'engine-fingerprint' } as const;
/** The bits are the same for any value. */
export const KEEPS_BITS = { bits: 'keeps' } as const;

export type Bits = (
  typeof DECIDES_BITS | typeof DECIDES_BITS_IF_SET | typeof BITS_BY_MIXTURE | typeof BITS_BY_ENGINE | typeof KEEPS_BITS
)['bits'];
