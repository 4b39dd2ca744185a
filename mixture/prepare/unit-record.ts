/**
 * unit.json: the identity of a unit, and the counts of its rows. It is written last into the folder of the unit. It
 * holds its own hash, so damage is noticed. It does not depend on the time, the machine or the process.
 */
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import {
  countSchema as count,
  FORMAT_VERSION,
  sha256Of,
  sha256Schema as sha256,
  shardEntrySchema,
} from './prepared-format.ts';
import { unitCountsSchema } from './unit-counts.ts';

export const UNIT_FILE = 'unit.json';

/** A part of a file. */
export const partSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('whole') }),
  z.strictObject({ kind: z.enum(['bytes', 'rows']), from: count, to: count }),
]);

const unitRecordSchema = z.strictObject({
  format: z.literal('exmix-unit'),
  version: z.literal(FORMAT_VERSION),
  task: z.string(),
  number: count,
  /** Hash of the identity of the task: everything that the unit depends on, besides its number. */
  identity: sha256,
  /** The part of the source. */
  file: z.string(),
  part: partSchema,
  counts: unitCountsSchema,
  shards: z.array(shardEntrySchema),
});

const storedRecordSchema = unitRecordSchema.extend({ hash: sha256 });

export type UnitRecord = z.infer<typeof unitRecordSchema>;

export function createUnitRecord(facts: Omit<UnitRecord, 'format' | 'version'>): UnitRecord {
  // Parsing fixes the order of the keys: the hash is of the text.
  return unitRecordSchema.parse({ format: 'exmix-unit', version: FORMAT_VERSION, ...facts });
}

/** The text of unit.json. */
export function serializeUnitRecord(record: UnitRecord): string {
  return `${JSON.stringify({ ...record, hash: sha256Of(JSON.stringify(record)) }, null, 2)}\n`;
}

/** @throws SHARD_CORRUPT if any byte was changed, or if another version wrote it */
export function parseUnitRecord(text: string, path: string): UnitRecord {
  const damaged = (why: string, cause?: unknown) =>
    new TrainerError('SHARD_CORRUPT', `${path}: ${why}; run "exmix prepare" again`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw damaged('is not JSON', error);
  }
  const parsed = storedRecordSchema.safeParse(value);
  if (!parsed.success) throw damaged(`is not a unit record of version ${FORMAT_VERSION}`, parsed.error);
  const { hash, ...record } = parsed.data;
  if (serializeUnitRecord(record) !== text) throw damaged(`expected content with the hash ${hash}`);
  return record;
}
