/**
 * overlap.json, beside set.json of an evaluation set: the examples that train splits of the mixture have too. `exmix tasks overlap` writes it,
 * and an evaluation scores the set with and without these examples.
 *
 * It names the set by its hash. A set that is made again has another folder, and no overlap.json.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { replaceFile } from '../../shared/atomic-file.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { ReadSetsOptions } from '../evaluation-sets/read-evaluation-sets.ts';
import { SETS_FOLDER, type EvaluationSetInfo } from '../evaluation-sets/set-record.ts';
import { openPreparedFiles } from '../feed/prepared-mixture.ts';
import { countSchema, sha256Schema } from '../prepare/prepared-format.ts';
import { GRAM_WORDS } from './gram-index.ts';

const OVERLAP_FILE = 'overlap.json';
/** Raise it when the normalisation or the layout changes. */
const OVERLAP_VERSION = 1;

const overlapSchema = z.strictObject({
  format: z.literal('exmix-overlap'),
  version: z.literal(OVERLAP_VERSION),
  /** Hash of the evaluation set. */
  set: sha256Schema,
  gramWords: z.literal(GRAM_WORDS),
  /** The train splits that were compared, in the order of the mixture. Numbers of examples of the set, ascending. */
  train: z.array(
    z.strictObject({
      task: z.string(),
      numExamples: countSchema,
      sameInputs: z.array(countSchema),
      sharedGrams: z.array(countSchema),
    }),
  ),
});

export type OverlapRecord = z.infer<typeof overlapSchema>;

export function createOverlapRecord({ hash }: EvaluationSetInfo, train: OverlapRecord['train']): OverlapRecord {
  return { format: 'exmix-overlap', version: OVERLAP_VERSION, set: hash, gramWords: GRAM_WORDS, train };
}

/** The examples that any train split has too. */
export function leakedExamples({ train }: OverlapRecord): ReadonlySet<number> {
  return new Set(train.flatMap(({ sameInputs, sharedGrams }) => [...sameInputs, ...sharedGrams]));
}

const keyOf = ({ task, name }: EvaluationSetInfo): string => `${SETS_FOLDER}/${task}/${name}/${OVERLAP_FILE}`;

/** @param folder of the prepared mixture @throws DISK_FULL, PATH_UNUSABLE */
export async function writeOverlap(folder: string, info: EvaluationSetInfo, record: OverlapRecord): Promise<void> {
  await replaceFile(join(folder, keyOf(info)), `${JSON.stringify(record)}\n`);
}

/**
 * @param location of the prepared mixture
 * @returns undefined if the set has not been compared with train, or was another one then
 * @throws SHARD_CORRUPT for another content; as readEvaluationSet
 */
export async function readOverlap(
  location: string,
  info: EvaluationSetInfo,
  { access, signal }: ReadSetsOptions = {},
): Promise<OverlapRecord | undefined> {
  const files = openPreparedFiles(location, access);
  const key = keyOf(info);
  let text: string;
  try {
    text = Buffer.from(await files.readUnknown(key, signal)).toString('utf8');
  } catch (error) {
    // readUnknown says PATH_UNUSABLE for a missing file; anything else is a failure of the storage.
    if (toTrainerError(error).code === 'PATH_UNUSABLE') return undefined;
    throw error;
  } finally {
    files.close();
  }
  const parsed = overlapSchema.safeParse(parseJson(text));
  if (!parsed.success)
    throw new TrainerError(
      'SHARD_CORRUPT',
      `${files.placeOf(key)}: expected what a set has in common with train, found other content; run "exmix tasks overlap" again`,
      { cause: parsed.error },
    );
  return parsed.data.set === info.hash ? parsed.data : undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
