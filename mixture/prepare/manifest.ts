/**
 * Manifests of a prepared mixture: one for each task, written after its units, and mixture.json, written last.
 *
 * They do not depend on the time, the machine or the place of files: the same source gives the same bytes. Hashes form
 * a tree: mixture.json holds its own hash and those of the task manifests. A task manifest holds the hashes of its
 * shard files.
 */
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import { isTooDeep } from '../../shared/json-keys.ts';
import type { JsonValue } from '../tasks/task.ts';
import {
  countSchema as count,
  FORMAT_VERSION,
  sha256Of,
  sha256Schema as sha256,
  shardEntrySchema,
} from './prepared-format.ts';
import { unitCountsSchema } from './unit-counts.ts';
import { listNames } from '../../shared/list-names.ts';

export const MIXTURE_FILE = 'mixture.json';
export const MANIFEST_FILE = 'manifest.json';
/** Largest manifest, bytes. A task with 100,000 shards has about 60 MB. */
export const MAX_MANIFEST_BYTES = 128 * 1024 * 1024;

const featureLengths = z.strictObject({ inputs: count, targets: count });
const jsonValue: z.ZodType<JsonValue> = z.json();

/** Everything that the shards of a task depend on. */
const identitySchema = z.strictObject({
  kind: z.enum(['supervised', 'denoising']),
  /** The resolved source. */
  source: z.strictObject({
    format: z.string(),
    quotes: z.boolean(),
    files: z.array(z.strictObject({ name: z.string(), bytes: count, version: z.string() })),
    /** Set for a hub. The revision is a commit. */
    origin: z
      .strictObject({ dataset: z.string(), config: z.string().optional(), split: z.string(), revision: z.string() })
      .optional(),
  }),
  /** About how many bytes of the source make a unit. */
  unitBytes: count,
  preprocessor: z.record(z.string(), jsonValue),
  tokenizer: sha256,
  featureLengths,
  shardBytes: count,
});

const counts = unitCountsSchema.shape;

const taskManifestSchema = z.strictObject({
  format: z.literal('exmix-token-shards'),
  version: z.literal(FORMAT_VERSION),
  name: z.string(),
  identity: identitySchema,
  /** Hash of the declaration in the mixture: the identity before the source was resolved. */
  declared: sha256,
  numUnits: count,
  tokenType: z.enum(['uint16', 'int32']),
  numExamples: count,
  /** Tokens stored. Supervised: inputs and targets with EOS. Denoising: raw tokens. */
  numTokens: count,
  /** Raw tokens of each denoising example. 0 for a supervised task. */
  segmentLength: count,
  truncated: counts.truncated,
  tokensIn: counts.tokensIn,
  droppedTokens: counts.dropped,
  /** Rows read: with examples, left out on purpose, held out, or malformed. */
  numRows: count,
  leftOutRows: count,
  /** Rows held out for evaluation. Missing if the task has an evaluation set of its own. */
  heldOutRows: count.exactOptional(),
  malformed: z.strictObject({ numRows: count, kinds: counts.malformedKinds, first: counts.malformedFirst }),
  /** In the order of examples. File names include the folder of the unit. */
  shards: z.array(shardEntrySchema),
});

const versionSchema = z.object({ version: z.int() });

const mixtureManifestSchema = z.strictObject({
  format: z.literal('exmix-prepared-mixture'),
  version: z.literal(FORMAT_VERSION),
  name: z.string(),
  tokenizer: z.strictObject({ hash: sha256, vocabSize: count, numExtraIds: count }),
  featureLengths,
  tasks: z.array(
    z.strictObject({
      /** Also the name of the folder. */
      name: z.string().regex(/^[a-z0-9][a-z0-9_.-]*$/u),
      kind: z.enum(['supervised', 'denoising']),
      numExamples: count,
      /** Hash of the task's manifest.json. */
      manifest: sha256,
    }),
  ),
});

const storedMixtureSchema = mixtureManifestSchema.extend({ hash: sha256 });

export type TaskIdentity = z.infer<typeof identitySchema>;
export type TaskManifest = z.infer<typeof taskManifestSchema>;
export type MixtureManifest = z.infer<typeof mixtureManifestSchema>;

export function createTaskManifest(facts: Omit<TaskManifest, 'format' | 'version'>): TaskManifest {
  return taskManifestSchema.parse({ format: 'exmix-token-shards', version: FORMAT_VERSION, ...facts }); // fixes the order of keys
}

export function createMixtureManifest(facts: Omit<MixtureManifest, 'format' | 'version'>): MixtureManifest {
  return { format: 'exmix-prepared-mixture', version: FORMAT_VERSION, ...facts };
}

/** The identity with its keys in the order in which they are written. */
export function createIdentity(facts: TaskIdentity): TaskIdentity {
  return identitySchema.parse(facts);
}

/** Hash of a task's identity and name. Units hold it. */
export function hashIdentity(name: string, identity: TaskIdentity): string {
  return sha256Of(JSON.stringify([FORMAT_VERSION, name, identity]));
}

/** The text of a task's manifest.json. */
export function serializeTaskManifest(manifest: TaskManifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/**
 * The text of mixture.json, and the hash that identifies the prepared mixture: SHA-256 of everything except the hash
 * itself.
 */
export function serializeMixtureManifest(manifest: MixtureManifest): { text: string; hash: string } {
  const hash = sha256Of(JSON.stringify(manifest));
  return { text: `${JSON.stringify({ ...manifest, hash }, null, 2)}\n`, hash };
}

/** @throws SHARD_CORRUPT */
export function parseTaskManifest(text: string, path: string): TaskManifest {
  return parse(taskManifestSchema, text, path);
}

/** @throws SHARD_CORRUPT if any byte was changed */
export function parseMixtureManifest(text: string, path: string): { manifest: MixtureManifest; hash: string } {
  const { hash: expected, ...manifest } = parse(storedMixtureSchema, text, path);
  const found = serializeMixtureManifest(manifest);
  if (found.text !== text)
    throw new TrainerError(
      'SHARD_CORRUPT',
      `${path}: expected content with the hash ${expected}, found ${found.hash}; prepare the mixture again`,
    );
  return { manifest, hash: expected };
}

function parse<T>(schema: z.ZodType<T>, text: string, path: string): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new TrainerError('SHARD_CORRUPT', `${path} is not JSON; prepare the mixture again`, { cause: error });
  }
  if (isTooDeep(text))
    throw new TrainerError(
      'SHARD_CORRUPT',
      `${path} has too many lists and objects inside each other; prepare the mixture again`,
    );
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const { data: of } = versionSchema.safeParse(value);
  if (of !== undefined && of.version !== FORMAT_VERSION)
    throw new TrainerError(
      'SHARD_CORRUPT',
      `${path} was written by another version of exmix: layout ${of.version}, this version reads ${FORMAT_VERSION}; prepare the mixture again`,
    );
  const problems = z.prettifyError(parsed.error);
  throw new TrainerError('SHARD_CORRUPT', `${path} is not a manifest of version ${FORMAT_VERSION}:\n${problems}`);
}

/** Says what changed between two identities. Undefined if nothing did. */
export function describeChange(before: TaskIdentity, now: TaskIdentity): string | undefined {
  const isSame = (key: keyof TaskIdentity) => JSON.stringify(before[key]) === JSON.stringify(now[key]);
  const words: Record<keyof TaskIdentity, string> = {
    kind: 'its kind',
    source: `its source (${describeSourceChange(before.source, now.source)})`,
    unitBytes: 'the size of units',
    preprocessor: 'its template or preprocessor',
    tokenizer: 'the tokenizer',
    featureLengths: `the feature lengths (${lengthsOf(before)} before, ${lengthsOf(now)} now)`,
    shardBytes: 'the size of shards',
  };
  const changed = identitySchema.keyof().options.filter((key) => !isSame(key));
  if (changed.length === 0) return undefined;
  const isCutAlone = isSameBesidesCut(before.preprocessor, now.preprocessor);
  const named = changed.map((key) =>
    key === 'preprocessor' && isCutAlone ? 'the records held out for evaluation' : words[key],
  );
  return `changed: ${named.join(', ')}`;
}

function isSameBesidesCut(before: TaskIdentity['preprocessor'], now: TaskIdentity['preprocessor']): boolean {
  const rules = (of: TaskIdentity['preprocessor']) => JSON.stringify({ ...of, heldOut: null });
  return rules(before) === rules(now);
}

/** Largest number of files that a message names. */
const MAX_NAMED = 3;

function describeSourceChange(before: TaskIdentity['source'], now: TaskIdentity['source']): string {
  const revisions = [before.origin?.revision, now.origin?.revision];
  const parts: string[] = [];
  if (revisions[0] !== revisions[1])
    parts.push(`revision ${revisions[0]?.slice(0, 12) ?? 'none'} before, ${revisions[1]?.slice(0, 12) ?? 'none'} now`);
  const versions = new Map(before.files.map(({ name, version }) => [name, version]));
  const files = now.files.filter(({ name, version }) => versions.get(name) !== version).map(({ name }) => name);
  const gone = before.files.length - (now.files.length - files.filter((name) => !versions.has(name)).length);
  if (files.length > 0) parts.push(listNames(files, { most: MAX_NAMED }));
  if (gone > 0) parts.push(`${gone} file(s) removed`);
  return parts.join('; ') || 'format or quotes';
}

function lengthsOf({ featureLengths: { inputs, targets } }: TaskIdentity): string {
  return `inputs ${inputs}, targets ${targets}`;
}
