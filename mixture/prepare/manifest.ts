/**
 * What a prepared mixture says of itself: one manifest per task, written after its shards, and mixture.json, written last.
 *
 * Nothing in them depends on the time, the machine or where files lie: the same source gives the same bytes.
 * Hashes form a tree: mixture.json holds its own hash and those of the task manifests, these hold those of the shard files.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { TrainerError } from '../../shared/errors.ts';
import type { JsonValue } from '../tasks/task.ts';

export const MIXTURE_FILE = 'mixture.json';
export const MANIFEST_FILE = 'manifest.json';

/** Raised when the layout or the rules of preparing change: older folders are prepared again. */
const FORMAT_VERSION = 1;

const count = z.int().min(0);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/u);
const featureLengths = z.strictObject({ inputs: count, targets: count });
const fileDigest = z.strictObject({ file: z.string().regex(/^shard-\d{5,}\.(tokens|index)$/u), bytes: count, sha256 });
const jsonValue: z.ZodType<JsonValue> = z.json();

/** All that the shards of a task are a function of. */
const identitySchema = z.strictObject({
  kind: z.enum(['supervised', 'denoising']),
  source: z.strictObject({
    format: z.string(),
    quotes: z.boolean(),
    files: z.array(z.strictObject({ path: z.string(), bytes: count, sha256 })),
  }),
  preprocessor: z.record(z.string(), jsonValue),
  tokenizer: sha256,
  featureLengths,
  shardBytes: count,
});

const taskManifestSchema = z.strictObject({
  format: z.literal('exmix-token-shards'),
  version: z.literal(FORMAT_VERSION),
  name: z.string(),
  identity: identitySchema,
  tokenType: z.enum(['uint16', 'int32']),
  numExamples: count,
  /** Tokens stored. Supervised: inputs and targets with EOS; denoising: raw tokens. */
  numTokens: count,
  /** Raw tokens of each example of the denoising task; 0 for a supervised one. */
  segmentLength: count,
  /** Examples cut to the feature lengths. */
  truncated: z.strictObject({ inputs: count, targets: count }),
  /** Denoising: tokens behind the last full segment. */
  droppedTokens: count,
  /** Rows read, the malformed ones included. */
  numRows: count,
  malformed: z.strictObject({
    numRows: count,
    first: z.array(z.strictObject({ file: z.string(), line: count, reason: z.string() })),
  }),
  /** `index` is missing where all examples have `segmentLength` tokens. */
  shards: z.array(z.strictObject({ numExamples: count, tokens: fileDigest, index: fileDigest.optional() })),
});

const mixtureManifestSchema = z.strictObject({
  format: z.literal('exmix-prepared-mixture'),
  version: z.literal(FORMAT_VERSION),
  name: z.string(),
  tokenizer: z.strictObject({ hash: sha256, vocabSize: count, numExtraIds: count }),
  featureLengths,
  tasks: z.array(
    z.strictObject({
      /** Also the name of its folder. */
      name: z.string().regex(/^[a-z0-9][a-z0-9_.-]*$/u),
      kind: z.enum(['supervised', 'denoising']),
      numExamples: count,
      /** Of the task's manifest.json. */
      manifest: sha256,
    }),
  ),
});

export type TaskIdentity = z.infer<typeof identitySchema>;
export type TaskManifest = z.infer<typeof taskManifestSchema>;
export type ShardEntry = TaskManifest['shards'][number];
export type MixtureManifest = z.infer<typeof mixtureManifestSchema>;

export function createTaskManifest(facts: Omit<TaskManifest, 'format' | 'version'>): TaskManifest {
  return { format: 'exmix-token-shards', version: FORMAT_VERSION, ...facts };
}

export function createMixtureManifest(facts: Omit<MixtureManifest, 'format' | 'version'>): MixtureManifest {
  return { format: 'exmix-prepared-mixture', version: FORMAT_VERSION, ...facts };
}

export function sha256Of(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

/** Bytes of a task's manifest.json. */
export function serializeTaskManifest(manifest: TaskManifest): string {
  return `${JSON.stringify(manifest, null, 2)}\n`;
}

/** Bytes of mixture.json, and the hash that identifies the prepared mixture: SHA-256 of all but the hash itself. */
export function serializeMixtureManifest(manifest: MixtureManifest): { text: string; hash: string } {
  const hash = sha256Of(JSON.stringify(manifest));
  return { text: `${JSON.stringify({ ...manifest, hash }, null, 2)}\n`, hash };
}

/** @throws SHARD_CORRUPT */
export function parseTaskManifest(text: string, path: string): TaskManifest {
  return parse(taskManifestSchema, text, path);
}

/** @throws SHARD_CORRUPT where a single byte is not as it was written */
export function parseMixtureManifest(text: string, path: string): { manifest: MixtureManifest; hash: string } {
  const { hash: expected, ...manifest } = parse(mixtureManifestSchema.extend({ hash: sha256 }), text, path);
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
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const problems = z.prettifyError(parsed.error);
  throw new TrainerError('SHARD_CORRUPT', `${path} is not a manifest of version ${FORMAT_VERSION}:\n${problems}`);
}

/** What made the shards of `before` useless for `now`, in words; undefined where nothing did. */
export function describeChange(before: TaskIdentity, now: TaskIdentity): string | undefined {
  const isSame = (key: keyof TaskIdentity) => JSON.stringify(before[key]) === JSON.stringify(now[key]);
  const words: Record<keyof TaskIdentity, string> = {
    kind: 'its kind',
    source: `its source (${changedFiles(before, now).join(', ') || 'format or quotes'})`,
    preprocessor: 'its template or preprocessor',
    tokenizer: 'the tokenizer',
    featureLengths: `the feature lengths (${lengthsOf(before)} before, ${lengthsOf(now)} now)`,
    shardBytes: 'the size of shards',
  };
  const changed = identitySchema.keyof().options.filter((key) => !isSame(key));
  return changed.length === 0 ? undefined : `changed: ${changed.map((key) => words[key]).join(', ')}`;
}

function changedFiles(before: TaskIdentity, now: TaskIdentity): string[] {
  const hashes = new Map(before.source.files.map((file) => [file.path, file.sha256]));
  return now.source.files.filter((file) => hashes.get(file.path) !== file.sha256).map((file) => file.path);
}

function lengthsOf({ featureLengths: { inputs, targets } }: TaskIdentity): string {
  return `inputs ${inputs}, targets ${targets}`;
}
