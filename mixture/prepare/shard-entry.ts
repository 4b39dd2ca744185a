/** One token shard in a record of a unit (file names in the unit's folder) or in a manifest (names in the task's folder). */
import { z } from 'zod';

const count = z.int().min(0);
const fileDigest = z.strictObject({
  file: z.string().regex(/^(unit-\d{5,}\/)?shard-\d{5,}\.(tokens|index|crc)$/u),
  bytes: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/u),
});

export const shardEntrySchema = z.strictObject({
  numExamples: count,
  tokens: fileDigest,
  /** Checksums of the blocks of the token file (block-checksums.ts): readers check what they read, and nothing is hashed up front. */
  checksums: fileDigest,
  /** Missing where all examples have one length. */
  index: fileDigest.optional(),
});

export type ShardEntry = z.infer<typeof shardEntrySchema>;

/** All files of a shard. */
export function filesOf({ tokens, checksums, index }: ShardEntry): readonly ShardEntry['tokens'][] {
  return index === undefined ? [tokens, checksums] : [tokens, checksums, index];
}
