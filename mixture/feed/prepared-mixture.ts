/**
 * An open prepared mixture, in a folder or in remote storage. The coordinator plans from it, and feed threads read it.
 *
 * Opening reads the manifests and indexes and verifies them by the hash tree below mixture.json. Tokens are verified
 * block by block when they are read (token-blocks.ts, docs/decisions/0012).
 */
import { join } from 'node:path';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { exmixHome } from '../../shared/exmix-home.ts';
import { isLocalLocation } from '../../shared/storage/location.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import type { TaskSize } from '../plan/rates.ts';
import {
  MANIFEST_FILE,
  MIXTURE_FILE,
  parseMixtureManifest,
  parseTaskManifest,
  type MixtureManifest,
} from '../prepare/manifest.ts';
import type { FeatureLengths } from '../tasks/task.ts';
import { LocalFiles } from './local-files.ts';
import { corrupt, type PreparedFiles } from './prepared-files.ts';
import { openPreparedTask, type PreparedTask } from './prepared-task.ts';
import { RemoteFiles } from './remote-files.ts';
import { SourceWatch, type SourceNotice } from './source-watch.ts';
import { TokenBlocks } from './token-blocks.ts';

export interface PreparedMixture {
  /** A folder or a URL. */
  readonly folder: string;
  readonly name: string;
  /** Identifies the mixture: equal hashes mean equal bytes. All members of a run compare it. */
  readonly hash: string;
  readonly featureLengths: FeatureLengths;
  readonly tokenizer: MixtureManifest['tokenizer'];
  /** In the order of the mixture. The `task` of a PlannedExample is an index into this list. */
  readonly tasks: readonly PreparedTask[];
  readonly sizes: readonly TaskSize[];
  readonly taskNames: readonly string[];
  close(): void;
}

export interface PreparedAccess {
  /** Remote: folder for copies of files with a known hash. Any number of processes may share it. */
  readonly cacheFolder?: string;
  /** Remote: reading fails if no answer comes for this long, ms. */
  readonly sourceTimeoutMs?: number;
  /** Remote: first and longest wait before a retry, ms. */
  readonly firstWaitMs?: number;
  readonly maxWaitMs?: number;
  /** Remote: a read that takes longer than this is reported, ms. */
  readonly stalledAfterMs?: number;
  /** Remote: called when the source does not answer, and when it answers again. */
  readonly onSource?: (notice: SourceNotice) => void;
}

/** Default of `feed.sourceTimeoutMs`, ms. */
const SOURCE_TIMEOUT_MS = 600_000;
/** Longest wait before a retry: a source that comes back is noticed within this time, ms. */
const MAX_WAIT_MS = 5_000;
const FIRST_WAIT_MS = 250;
/** A read of a block without any byte for this long is retried, ms. */
const IDLE_MS = 10_000;

export interface OpenOptions {
  /** The hash that the run was started with. */
  readonly expectedHash?: string;
  readonly access?: PreparedAccess;
  readonly signal?: AbortSignal;
}

/**
 * @param location a folder, or an http:, https: or s3: URL
 * @throws PATH_UNUSABLE if there is no finished mixture; SHARD_CORRUPT with the file, expected and found;
 * MIXTURE_MISMATCH if it is another mixture than expected; the codes of shared/storage; ABORTED
 */
export async function openPreparedMixture(
  location: string,
  { expectedHash, access, signal }: OpenOptions = {},
): Promise<PreparedMixture> {
  const files = openPreparedFiles(location, access);
  // The first failure aborts the other reads.
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
        'prepare it from the sources, templates, tokenizer and lengths that the run was started with',
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

/** @throws CONFIG_INVALID for another scheme */
export function openPreparedFiles(location: string, access: PreparedAccess = {}): PreparedFiles {
  if (isLocalLocation(location)) return new LocalFiles(location);
  const { onSource, stalledAfterMs, sourceTimeoutMs = SOURCE_TIMEOUT_MS } = access;
  const watch = new SourceWatch({
    ...(stalledAfterMs === undefined ? {} : { stalledAfterMs }),
    onNotice: onSource ?? (() => undefined),
  });
  const storage = openStorage(location, {
    retry: {
      deadlineMs: sourceTimeoutMs,
      idleMs: Math.min(IDLE_MS, sourceTimeoutMs),
      firstWaitMs: access.firstWaitMs ?? FIRST_WAIT_MS,
      maxWaitMs: access.maxWaitMs ?? MAX_WAIT_MS,
    },
    onRetry: (notice) => watch.retried(notice),
  });
  return new RemoteFiles({ storage, watch, cacheFolder: access.cacheFolder ?? join(exmixHome(), 'remote') });
}
