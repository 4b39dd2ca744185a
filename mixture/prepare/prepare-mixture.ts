/**
 * Sources → token shards of a whole mixture. Resumable and deterministic: a task whose shards are there, whole and made from the
 * same source, template, tokenizer and lengths is not made again; the same mixture gives the same bytes anywhere.
 *
 * Several processes may prepare the same folder at the same time. mixture.json is written last: without it there is no prepared
 * mixture. A malformed source does not keep the other tasks from being prepared; it is told at the end.
 */
import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFile, replaceFile, systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { removeAbandoned } from '../../shared/partial-folders.ts';
import { computeSegmentLength, denoisingLengths } from '../plan/span-corruption.ts';
import { resolveSources } from '../sources/resolve-source.ts';
import type { ResolvedSource } from '../sources/resolved-source.ts';
import { createSourceAccess, type SourceAccess } from '../sources/source-access.ts';
import type { FeatureLengths, Mixture } from '../tasks/task.ts';
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import {
  createMixtureManifest,
  describeChange,
  MANIFEST_FILE,
  MIXTURE_FILE,
  parseTaskManifest,
  serializeMixtureManifest,
  serializeTaskManifest,
  sha256Of,
  type TaskIdentity,
  type TaskManifest,
} from './manifest.ts';
import { prepareTask, type PreparableTask, type PrepareTaskInit, type TaskProgress } from './prepare-task.ts';
import { checkRows } from './row-tally.ts';

/** A shard ends before it would be larger. */
const SHARD_BYTES = 64 * 1024 * 1024;
/** Share of malformed rows that a task may have. */
export const BAD_ROW_THRESHOLD = 0.001;
/** Lengths are stored in 16 bits. */
const MAX_FEATURE_LENGTH = 65_535;

export interface PrepareInit {
  readonly mixture: Mixture;
  /** Tokens, EOS included. */
  readonly featureLengths: FeatureLengths;
  /** Folder of the prepared mixture; made where it is not there. */
  readonly outDir: string;
  /** Largest share of malformed rows, 0 to 1, of the rows of each task. */
  readonly badRowThreshold?: number;
  readonly shardBytes?: number;
  /** How sources are reached; default: by the environment. */
  readonly access?: SourceAccess;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TaskProgress) => void;
  /** Called when a task is done. */
  readonly onTask?: (task: PreparedTaskReport) => void;
}

export interface PreparedTaskReport {
  readonly name: string;
  /** `reused`: its shards were there. */
  readonly outcome: 'prepared' | 'reused';
  /** Why it was made again, where there were shards before. */
  readonly reason?: string;
  readonly manifest: TaskManifest;
}

export interface PrepareReport {
  readonly folder: string;
  /** Identifies the prepared mixture: two folders with this hash hold the same bytes. */
  readonly hash: string;
  readonly tasks: readonly PreparedTaskReport[];
}

/**
 * @throws CONFIG_INVALID (lengths, threshold), SOURCE_UNREADABLE (all missing files at once), SOURCE_MALFORMED (all tasks at once),
 *   TOKENIZER_INVALID, PATH_UNUSABLE, DISK_FULL, ABORTED. Finished tasks stay, and are reused by the next call.
 */
export async function prepareMixture(init: PrepareInit): Promise<PrepareReport> {
  const { mixture, featureLengths, outDir, badRowThreshold = BAD_ROW_THRESHOLD, access = createSourceAccess() } = init;
  checkOptions(featureLengths, badRowThreshold);
  const preparables = listTasks(mixture, featureLengths);
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const sources = await resolveSources(
    preparables.map(({ task }) => task.source),
    access,
    init.signal,
  );
  await mkdir(outDir, { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', outDir);
  });
  await removeAbandoned(outDir);

  const identify = createIdentifier(init, tokenizer);
  const tasks: PreparedTaskReport[] = [];
  const malformed: TrainerError[] = [];
  for (const [i, preparable] of preparables.entries()) {
    const source = sources[i]!;
    const identity = identify(preparable, source);
    try {
      const report = await prepareOne(init, { preparable, source, access, identity, tokenizer, outDir, badRowThreshold });
      tasks.push(report);
      init.onTask?.(report);
    } catch (thrown) {
      const error = toTrainerError(thrown);
      if (error.code !== 'SOURCE_MALFORMED') throw error;
      malformed.push(error);
    }
  }
  if (malformed.length === 1) throw malformed[0]!;
  if (malformed.length > 1)
    throw new TrainerError('SOURCE_MALFORMED', malformed.map(({ message }) => message).join('\n'), {
      cause: malformed,
    });

  const manifest = createMixtureManifest({
    name: mixture.name,
    tokenizer: { hash: tokenizer.hash, vocabSize: tokenizer.vocabSize, numExtraIds: tokenizer.numExtraIds },
    featureLengths,
    tasks: tasks.map(({ name, manifest: of }) => ({
      name,
      kind: of.identity.kind,
      numExamples: of.numExamples,
      manifest: sha256Of(serializeTaskManifest(of)),
    })),
  });
  const { text, hash } = serializeMixtureManifest(manifest);
  const path = join(outDir, MIXTURE_FILE);
  if ((await readIfThere(path)) !== text) await replaceFile(path, text);
  return { folder: outDir, hash, tasks };
}

async function prepareOne(
  { signal, onProgress }: PrepareInit,
  taskInit: PrepareTaskInit,
): Promise<PreparedTaskReport> {
  const { preparable, identity, outDir, badRowThreshold } = taskInit;
  const { name } = preparable.task;
  const found = await findPrepared(join(outDir, name), name, identity, signal);
  if (found.manifest !== undefined) {
    checkRows(name, found.manifest, badRowThreshold);
    return { name, outcome: 'reused', manifest: found.manifest };
  }
  await rm(join(outDir, MIXTURE_FILE), { force: true }).catch((error: unknown) => {
    throw toStorageError(error, 'remove', join(outDir, MIXTURE_FILE));
  });
  const manifest = await prepareTask({
    ...taskInit,
    ...(signal === undefined ? {} : { signal }),
    ...(onProgress === undefined ? {} : { onProgress }),
  });
  return { name, outcome: 'prepared', ...(found.reason === undefined ? {} : { reason: found.reason }), manifest };
}

/** The manifest of shards that can be used as they are, or why those that are there cannot. */
async function findPrepared(
  folder: string,
  name: string,
  identity: TaskIdentity,
  signal: AbortSignal | undefined,
): Promise<{ manifest?: TaskManifest; reason?: string }> {
  const path = join(folder, MANIFEST_FILE);
  const text = await readIfThere(path);
  if (text === undefined) return {};
  try {
    const manifest = parseTaskManifest(text, path);
    if (manifest.name !== name || serializeTaskManifest(manifest) !== text) return { reason: `${path} is damaged` };
    const change = describeChange(manifest.identity, identity);
    if (change !== undefined) return { reason: change };
    for (const { tokens, index } of manifest.shards)
      for (const file of index === undefined ? [tokens] : [tokens, index])
        if ((await hashFile(join(folder, file.file), signal)).sha256 !== file.sha256)
          return { reason: `${join(folder, file.file)} is damaged` };
    return { manifest };
  } catch (thrown) {
    const error = toTrainerError(thrown);
    if (error.code === 'ABORTED') throw error;
    return { reason: error.message };
  }
}

function listTasks(mixture: Mixture, { inputs, targets }: FeatureLengths): PreparableTask[] {
  const preparables: PreparableTask[] = mixture.tasks.map((task) => ({ kind: 'supervised', task }));
  if (mixture.denoising === undefined) return preparables;
  const needed = denoisingLengths(inputs).targetsLength;
  if (needed > targets)
    throw new TrainerError(
      'CONFIG_INVALID',
      `feature lengths: denoising of ${inputs} input tokens needs ${needed} target tokens, found ${targets}; raise the targets or lower the inputs length`,
    );
  const segmentLength = computeSegmentLength({ inputsLimit: inputs, targetsLimit: targets });
  return [...preparables, { kind: 'denoising', task: mixture.denoising, segmentLength }];
}

function createIdentifier(
  { featureLengths, shardBytes = SHARD_BYTES }: PrepareInit,
  tokenizer: Tokenizer,
): (preparable: PreparableTask, source: ResolvedSource) => TaskIdentity {
  return (preparable, { format, quotes, files }) => {
    const identities = files.map(({ name, bytes, version }) => ({ path: name, bytes, sha256: version.replace(/^sha256:/u, '') }));
    return {
      kind: preparable.kind,
      source: { format, quotes, files: identities },
      preprocessor:
        preparable.kind === 'supervised'
          ? { ...preparable.task.preprocessor.identity }
          : { kind: 'denoising', text: preparable.task.text, segmentLength: preparable.segmentLength },
      tokenizer: tokenizer.hash,
      featureLengths: { inputs: featureLengths.inputs, targets: featureLengths.targets },
      shardBytes,
    };
  };
}

function checkOptions({ inputs, targets }: FeatureLengths, badRowThreshold: number): void {
  for (const [what, length] of [
    ['inputs', inputs],
    ['targets', targets],
  ] as const)
    if (!Number.isInteger(length) || length < 2 || length > MAX_FEATURE_LENGTH)
      throw new TrainerError(
        'CONFIG_INVALID',
        `${what} length: expected a whole number of tokens from 2 to ${MAX_FEATURE_LENGTH}, found ${length}`,
      );
  if (!(badRowThreshold >= 0 && badRowThreshold <= 1))
    throw new TrainerError(
      'CONFIG_INVALID',
      `bad-row threshold: expected a share from 0 to 1, found ${badRowThreshold}`,
    );
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw toStorageError(error, 'read', path);
  }
}
