/**
 * set.json and examples.jsonl: the facts of an evaluation set, and its examples, one a line.
 *
 * set.json holds the hash of examples.jsonl and its own hash, which identifies the set: equal hashes mean equal examples, made the same way.
 * Neither file depends on the time, the machine or the process.
 */
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import { isTooDeep } from '../../shared/json-keys.ts';
import { countSchema as count, sha256Of, sha256Schema as sha256 } from '../prepare/prepared-format.ts';
import { unitCountsSchema } from '../prepare/unit-counts.ts';
import { SPLITS, type JsonValue, type SplitName } from '../tasks/task.ts';

/** Folder of all evaluation sets in the folder of a prepared mixture. */
export const SETS_FOLDER = 'evaluation';
export const SET_FILE = 'set.json';
export const EXAMPLES_FILE = 'examples.jsonl';
/** Largest examples.jsonl, bytes: a set is read whole. */
export const MAX_EXAMPLES_BYTES = 1024 * 1024 * 1024;
/** Raise it when the layout or the rules change: sets of other versions are made again. */
const SET_VERSION = 1;

/** The name of a task or set: also the name of its folder. */
export const folderNameSchema = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_.-]*$/u);
const jsonValue: z.ZodType<JsonValue> = z.json();

/** Everything that the examples depend on, besides the content of the source. */
const rulesSchema = z.strictObject({
  task: z.string(),
  kind: z.enum(['supervised', 'denoising']),
  split: z.enum(SPLITS),
  name: folderNameSchema,
  /** The records of train that are held out: one in so many. */
  cut: count.exactOptional(),
  preprocessor: z.record(z.string(), jsonValue),
  /** Raw tokens of a denoising example. */
  segmentLength: count.exactOptional(),
  /** Column of all right answers. */
  references: z.strictObject({ path: z.string(), isPadded: z.literal(true).exactOptional() }).exactOptional(),
  /** Field of an example → path of its column. */
  fields: z.record(z.string(), z.string()),
  /** The source as the mixture declares it, without the places of local files. */
  source: jsonValue,
  tokenizer: sha256,
  featureLengths: z.strictObject({ inputs: count, targets: count }),
});

const counts = unitCountsSchema.shape;

const setRecordSchema = z.strictObject({
  format: z.literal('exmix-evaluation-set'),
  version: z.literal(SET_VERSION),
  rules: rulesSchema,
  /** Files of the source, as they were found. */
  files: z.array(z.strictObject({ name: z.string(), bytes: count, version: z.string() })),
  /** Commit of a source on a hub. */
  revision: z.string().exactOptional(),
  /** The largest number of examples that was asked for. */
  maxExamples: count,
  numExamples: count,
  /** Examples of the source. Undefined if reading stopped at `maxExamples`. */
  numAvailable: count.exactOptional(),
  /** Examples of the set whose inputs or targets were cut to the feature lengths. */
  numCutInputs: count,
  numCutTargets: count,
  rows: z.strictObject({ read: count, withExamples: count, leftOut: count, malformed: count }),
  malformedKinds: counts.malformedKinds,
  malformedFirst: counts.malformedFirst,
  bytes: count,
  sha256,
});

const storedSchema = setRecordSchema.extend({ hash: sha256 });

export type SetRules = z.infer<typeof rulesSchema>;
export type SetRecord = z.infer<typeof setRecordSchema>;

/** An evaluation set, for those who choose, read and show sets. */
export interface EvaluationSetInfo {
  readonly task: string;
  readonly kind: 'supervised' | 'denoising';
  readonly split: SplitName;
  /** E.g. `validation`, or `validation_matched` where a split has several sets. */
  readonly name: string;
  /** SHA-256 over identity and content. */
  readonly hash: string;
  readonly numExamples: number;
  readonly numCutInputs: number;
  readonly numCutTargets: number;
  /** Set if it is a part of train: one of so many records. */
  readonly cut?: number;
  readonly numRows: number;
  readonly numMalformedRows: number;
  /** Examples of the source, of which the set has `numExamples`. Undefined if they were not counted. */
  readonly numAvailable?: number;
  /** Size and hash of examples.jsonl. */
  readonly bytes: number;
  readonly sha256: string;
}

export function createSetRecord(facts: Omit<SetRecord, 'format' | 'version'>): SetRecord {
  // Parsing fixes the order of the keys: the hash is of the text.
  return setRecordSchema.parse({ format: 'exmix-evaluation-set', version: SET_VERSION, ...facts });
}

/** The rules with their keys in the order in which they are written. */
export function createRules(facts: SetRules): SetRules {
  return rulesSchema.parse(facts);
}

/** The text of set.json. */
export function serializeSetRecord(record: SetRecord): string {
  return `${JSON.stringify({ ...record, hash: hashOf(record) }, null, 2)}\n`;
}

function hashOf(record: SetRecord): string {
  return sha256Of(JSON.stringify(record));
}

/** @throws SHARD_CORRUPT if any byte was changed, or if another version wrote it */
export function parseSetRecord(text: string, path: string): SetRecord {
  const damaged = (why: string, cause?: unknown) =>
    new TrainerError('SHARD_CORRUPT', `${path}: ${why}; run "exmix prepare" again`, { cause });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw damaged('is not JSON', error);
  }
  if (isTooDeep(text)) throw damaged('has too many lists and objects inside each other');
  const parsed = storedSchema.safeParse(value);
  if (!parsed.success) throw damaged(`is not an evaluation set of version ${SET_VERSION}`, parsed.error);
  const { hash, ...record } = parsed.data;
  if (serializeSetRecord(record) !== text) throw damaged(`expected content with the hash ${hash}`);
  return record;
}

export function infoOf(record: SetRecord): EvaluationSetInfo {
  const { rules, numExamples, numCutInputs, numCutTargets, numAvailable, rows, bytes, sha256: digest } = record;
  const { task, kind, split, name, cut } = rules;
  return {
    ...{ task, kind, split, name, hash: hashOf(record), numExamples, numCutInputs, numCutTargets },
    ...(cut === undefined ? {} : { cut }),
    numRows: rows.read,
    numMalformedRows: rows.malformed,
    ...(numAvailable === undefined ? {} : { numAvailable }),
    ...{ bytes, sha256: digest },
  };
}

/** A value of a column that a post-processor reads. */
export type SetFieldValue = Scalar | readonly Scalar[];
type Scalar = string | number | boolean;

export interface SetExample {
  /** Its place in the set, from 0. */
  readonly id: number;
  readonly inputs: string;
  /** With EOS, cut to the feature length. */
  readonly inputIds: readonly number[];
  readonly targets: string;
  readonly targetIds: readonly number[];
  /** All right answers. The targets come first if they are among them. */
  readonly references: readonly string[];
  /** What a post-processor reads besides. */
  readonly fields: Readonly<Record<string, SetFieldValue>>;
  /** Tokens that were cut. */
  readonly cutInputTokens: number;
  readonly cutTargetTokens: number;
}

const scalar = z.union([z.string(), z.number(), z.boolean()]);
const storedExampleSchema = z.strictObject({
  inputs: z.string(),
  inputIds: z.array(count),
  targets: z.string(),
  targetIds: z.array(count),
  /** Left out if the targets are the only answer. */
  references: z.array(z.string()).min(1).exactOptional(),
  fields: z.record(z.string(), z.union([scalar, z.array(scalar)])).exactOptional(),
  cutInputTokens: count.exactOptional(),
  cutTargetTokens: count.exactOptional(),
});

/** A line of examples.jsonl, without its line break. */
export function serializeExample(example: Omit<SetExample, 'id'>): string {
  const { inputs, inputIds, targets, targetIds, references, fields, cutInputTokens, cutTargetTokens } = example;
  const isAlone = references.length === 1 && references[0] === targets;
  return JSON.stringify({
    ...{ inputs, inputIds, targets, targetIds },
    ...(isAlone ? {} : { references }),
    ...(Object.keys(fields).length === 0 ? {} : { fields }),
    ...(cutInputTokens === 0 ? {} : { cutInputTokens }),
    ...(cutTargetTokens === 0 ? {} : { cutTargetTokens }),
  });
}

/** @throws SHARD_CORRUPT */
export function parseExample(line: string, id: number, place: string): SetExample {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    value = undefined;
  }
  const parsed = storedExampleSchema.safeParse(value);
  if (!parsed.success)
    throw new TrainerError(
      'SHARD_CORRUPT',
      `${place}:${id + 1}: expected an example of an evaluation set, found other content; run "exmix prepare" again`,
      { cause: parsed.error },
    );
  const { references = [parsed.data.targets], fields = {}, cutInputTokens = 0, cutTargetTokens = 0 } = parsed.data;
  const { inputs, inputIds, targets, targetIds } = parsed.data;
  return { id, inputs, inputIds, targets, targetIds, references, fields, cutInputTokens, cutTargetTokens };
}
