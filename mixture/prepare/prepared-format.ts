/** Common parts of all files of a prepared mixture: the version of the layout, the hash, and the entry of a shard. */
import { createHash } from 'node:crypto';
import { z } from 'zod';

/** Raise it when the layout or the rules of preparing change: mixtures of other versions are prepared again. */
export const FORMAT_VERSION = 2;

/** SHA-256 in hex. */
export function sha256Of(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

export const countSchema = z.int().min(0);
export const sha256Schema = z.string().regex(/^[0-9a-f]{64}$/u);

const fileDigest = z.strictObject({
  file: z.string().regex(/^(unit-\d{5,}\/)?shard-\d{5,}\.(tokens|index|crc)$/u),
  bytes: countSchema,
  sha256: sha256Schema,
});

/** A token shard. File names are relative to the folder of the unit in unit.json, and to the folder of the task in manifest.json. */
export const shardEntrySchema = z.strictObject({
  numExamples: countSchema,
  tokens: fileDigest,
  /** Checksums of the blocks of the token file (block-checksums.ts), so that readers can check what they read. */
  checksums: fileDigest,
  /** Missing if all examples have the same lengths. */
  index: fileDigest.optional(),
});

export type ShardEntry = z.infer<typeof shardEntrySchema>;

/** All files of a shard. */
export function filesOf({ tokens, checksums, index }: ShardEntry): readonly ShardEntry['tokens'][] {
  return index === undefined ? [tokens, checksums] : [tokens, checksums, index];
}
