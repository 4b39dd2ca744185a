/**
 * A prepared mixture, open: what the coordinator plans from and the feed threads read. It may lie in a folder or in remote storage.
 *
 * Opening reads manifests and indexes, verified by the hash tree below mixture.json; tokens are verified block by block when they
 * are read (token-blocks.ts, docs/decisions/0012).
 */
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { TaskSize } from '../plan/rates.ts';
import {
  MANIFEST_FILE,
  MIXTURE_FILE,
  parseMixtureManifest,
  parseTaskManifest,
  type MixtureManifest,
} from '../prepare/manifest.ts';
import type { FeatureLengths } from '../tasks/task.ts';
import { openPreparedFiles, type PreparedAccess } from './open-prepared-files.ts';
import { corrupt, type PreparedFiles } from './prepared-files.ts';
import { openPreparedTask, type PreparedTask } from './prepared-task.ts';
import { TokenBlocks } from './token-blocks.ts';

export interface PreparedMixture {
  /** A folder or a URL. */
  readonly folder: string;
  readonly name: string;
  /** Identifies it: equal hashes, equal bytes. What the members of a run compare. */
  readonly hash: string;
  readonly featureLengths: FeatureLengths;
  readonly tokenizer: MixtureManifest['tokenizer'];
  /** In the order of the mixture; a PlannedExample's `task` is the place in this list. */
  readonly tasks: readonly PreparedTask[];
  readonly sizes: readonly TaskSize[];
  readonly taskNames: readonly string[];
  close(): void;
}

export interface OpenOptions {
  /** The hash that the run was started with. */
  readonly expectedHash?: string;
  readonly access?: PreparedAccess;
  readonly signal?: AbortSignal;
}

/**
 * @param location a folder, or an http:, https: or s3: URL of one
 * @throws PATH_UNUSABLE where there is no finished mixture; SHARD_CORRUPT with the file, what was expected and what was found;
 *   MIXTURE_MISMATCH where it is another mixture than expected; the codes of shared/storage; ABORTED
 */
export async function openPreparedMixture(
  location: string,
  { expectedHash, access, signal }: OpenOptions = {},
): Promise<PreparedMixture> {
  const files = openPreparedFiles(location, access);
  // The first failure calls off what else is being read.
  const failed = new AbortController();
  const stop = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  try {
    return await openFrom(files, expectedHash, stop);
  } catch (error) {
    failed.abort(toTrainerError(error));
    files.close();
    throw error;
  }
}

async function openFrom(
  files: PreparedFiles,
  expectedHash: string | undefined,
  signal: AbortSignal,
): Promise<PreparedMixture> {
  const { location } = files;
  const text = asText(await files.readUnknown(MIXTURE_FILE, signal));
  const { manifest, hash } = parseMixtureManifest(text, files.placeOf(MIXTURE_FILE));
  if (expectedHash !== undefined && hash !== expectedHash)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `${location}: expected the prepared mixture ${expectedHash}, found ${hash} (${manifest.name}); ` +
        'prepare it from the same sources, templates, tokenizer and lengths as the run was started with',
    );
  const blocks = new TokenBlocks(files);
  const opening = manifest.tasks.map((task) => openTask(task, files, blocks, signal));
  const tasks = await Promise.all(opening);
  return {
    folder: location,
    name: manifest.name,
    hash,
    featureLengths: manifest.featureLengths,
    tokenizer: manifest.tokenizer,
    tasks,
    sizes: tasks.map(({ name, kind, numExamples }) => ({ name, kind, numExamples })),
    taskNames: tasks.map(({ name }) => name),
    close: () => files.close(),
  };
}

async function openTask(
  { name, numExamples, manifest: expected }: MixtureManifest['tasks'][number],
  files: PreparedFiles,
  blocks: TokenBlocks,
  signal: AbortSignal,
): Promise<PreparedTask> {
  const key = `${name}/${MANIFEST_FILE}`;
  const place = files.placeOf(key);
  const taskManifest = parseTaskManifest(asText(await files.readKnown({ key, sha256: expected }, signal)), place);
  if (taskManifest.name !== name || taskManifest.numExamples !== numExamples)
    throw corrupt(
      place,
      `the task ${name} of ${numExamples} examples`,
      `${taskManifest.name} of ${taskManifest.numExamples}`,
    );
  return openPreparedTask(taskManifest, files, blocks, signal);
}

function asText(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}
