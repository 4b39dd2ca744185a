/**
 * unit.json: what a unit is and what became of its rows. Written last into the unit's folder; it holds its own hash, so that a
 * damaged one is noticed. Nothing in it depends on the time, the machine or the process.
 */
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import { FORMAT_VERSION, sha256Of } from './prepared-format.ts';
import { shardEntrySchema } from './shard-entry.ts';
import { unitCountsSchema } from './unit-counts.ts';

export const UNIT_FILE = 'unit.json';

const count = z.int().min(0);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/u);

/** A piece of a file. */
export const partSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('whole') }),
  z.strictObject({ kind: z.enum(['bytes', 'rows']), from: count, to: count }),
]);

const unitRecordSchema = z.strictObject({
  format: z.literal('exmix-unit'),
  version: z.literal(FORMAT_VERSION),
  task: z.string(),
  number: count,
  /** Of the task's identity: all that the unit is a function of, besides its number. */
  identity: sha256,
  /** The piece of the source. */
  file: z.string(),
  part: partSchema,
  counts: unitCountsSchema,
  shards: z.array(shardEntrySchema),
});

const storedRecordSchema = unitRecordSchema.extend({ hash: sha256 });

export type UnitRecord = z.infer<typeof unitRecordSchema>;

export function createUnitRecord(facts: Omit<UnitRecord, 'format' | 'version'>): UnitRecord {
  // Parsed for the order of its keys: the hash is of the text.
  return unitRecordSchema.parse({ format: 'exmix-unit', version: FORMAT_VERSION, ...facts });
}

/** Bytes of unit.json. */
export function serializeUnitRecord(record: UnitRecord): string {
  return `${JSON.stringify({ ...record, hash: sha256Of(JSON.stringify(record)) }, null, 2)}\n`;
}

/** @throws SHARD_CORRUPT where a single byte is not as it was written, or another version wrote it */
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
  if (!parsed.success) throw damaged(`is no record of a unit of version ${FORMAT_VERSION}`, parsed.error);
  const { hash, ...record } = parsed.data;
  if (serializeUnitRecord(record) !== text) throw damaged(`expected content with the hash ${hash}`);
  return record;
}
