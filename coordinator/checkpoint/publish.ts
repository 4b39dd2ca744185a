/**
 * Publishes a checkpoint. The workers have written their shards into a folder that no reader sees. The coordinator adds the other files,
 * syncs everything, writes the manifest last, and makes the folder visible by one rename.
 */
import { mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import {
  copyDurably,
  hashFile,
  statIfThere,
  syncFolder,
  systemCode,
  toStorageError,
  writeNewFile,
} from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import {
  checkpointName,
  CONFIG_FILE,
  GENERATION_CONFIG_FILE,
  MANIFEST_FILE,
  MODEL_INDEX_FILE,
  RUN_FILE,
  writingName,
} from '../../shared/checkpoint/layout.ts';
import type { ExtraFile } from '../../shared/checkpoint/extra-file.ts';
import { encodeHuggingFaceJson, generationConfigOf, modelIndexOf } from '../../shared/checkpoint/hugging-face-json.ts';
import { encodeManifest, type FileEntry } from '../../shared/checkpoint/manifest.ts';
import { readRunRecord } from '../../shared/checkpoint/read.ts';
import { runRecordSchema, type RunRecord } from '../../shared/checkpoint/run-record.ts';
import type { ShardPlan } from '../../shared/checkpoint/shard-plan.ts';
import { verifyCheckpoint } from '../../shared/checkpoint/verify.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { removeCheckpoint } from './retention.ts';
import type { RunCursor } from '../deal/rate-changes.ts';

/** The report of one worker about its shards. */
export interface WorkerFiles {
  readonly workerId: string;
  readonly files: readonly FileEntry[];
  /** Digest of all parameters; the same on every worker. */
  readonly paramDigest: string;
}

export interface PublishInit {
  /** From `makeWritingFolder`; holds the shards. */
  readonly writingFolder: string;
  /** `…/checkpoints/step-<n>`, beside the writing folder. */
  readonly finalFolder: string;
  readonly shardPlan: ShardPlan;
  readonly workerFiles: readonly WorkerFiles[];
  /** `config.json` for Transformers. */
  readonly hfConfig: Readonly<Record<string, unknown>>;
  /** Copied as they are, e.g. `spiece.model`, or written. */
  readonly tokenizerFiles: readonly ExtraFile[];
  readonly run: RunRecord;
  readonly signal: AbortSignal;
}

export interface PublishedCheckpoint {
  readonly path: string;
  readonly step: number;
  readonly bytes: number;
  readonly paramDigest: string;
}

/** A shard that a worker reported is not in the writing folder as it was reported: the worker writes to another file system. */
export class ShardMissing extends TrainerError {
  readonly workerId: string;

  constructor(workerId: string, path: string, expectedBytes: number, found: string) {
    super(
      'PATH_UNUSABLE',
      `${path}: worker ${workerId} wrote ${expectedBytes} B, ${found}; ` +
        'its host must have the file system of the run folder under the same path',
    );
    this.workerId = workerId;
  }
}

/**
 * Makes the folder that the workers write into. Removes a leftover of the same name.
 * @returns its path @throws PATH_UNUSABLE, DISK_FULL
 */
export async function makeWritingFolder(
  checkpointsFolder: string,
  at: { readonly step: number; readonly epoch: number; readonly generation: number },
): Promise<string> {
  const path = join(checkpointsFolder, writingName(at.step, at.epoch, at.generation));
  try {
    await rm(path, { recursive: true, force: true });
    await mkdir(path);
    await syncFolder(checkpointsFolder);
    return path;
  } catch (error) {
    throw toStorageError(error, 'make', path);
  }
}

/**
 * On any failure the writing folder is removed and the older checkpoints stay as they were. A step that is published already with the same
 * parameters is left as it is; a damaged one is replaced.
 * @throws STATE_DIVERGED where workers hold different parameters; CHECKPOINT_MISMATCH where another checkpoint of that step
 *   is there; DISK_FULL, PATH_UNUSABLE, ABORTED; INTERNAL where the reports do not cover the plan
 */
export async function publishCheckpoint(init: PublishInit): Promise<PublishedCheckpoint> {
  const { writingFolder, finalFolder, run } = init;
  const { step, paramDigest } = run;
  assertInvariant(dirname(writingFolder) === dirname(finalFolder), `${writingFolder} is not beside ${finalFolder}`);
  assertInvariant(basename(finalFolder) === checkpointName(step), `${finalFolder} is not named after step ${step}`);
  try {
    const shards = await collectShards(init);
    const rest = await writeRest(init);
    const files = [...shards, ...rest];
    await syncFolder(writingFolder);
    await writeNewFile(join(writingFolder, MANIFEST_FILE), encodeManifest({ step, files }));
    await syncFolder(writingFolder);
    throwIfAborted(init.signal, `publishing ${finalFolder}`);
    if (await makeWay(finalFolder, run)) await rename(writingFolder, finalFolder);
    else await rm(writingFolder, { recursive: true, force: true });
    await syncFolder(dirname(finalFolder));
    return { path: finalFolder, step, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0), paramDigest };
  } catch (error) {
    await rm(writingFolder, { recursive: true, force: true }).catch(() => undefined); // the next start removes it
    throw toStorageError(error, 'publish', finalFolder);
  }
}

/** The shard files: each was reported once and has the reported size. */
async function collectShards(init: PublishInit): Promise<FileEntry[]> {
  const { shardPlan, workerFiles, writingFolder, run } = init;
  const reported = new Map<string, FileEntry>();
  for (const { workerId, files, paramDigest } of workerFiles) {
    if (paramDigest !== run.paramDigest)
      throw new TrainerError(
        'STATE_DIVERGED',
        `step ${run.step}: expected parameters with digest ${run.paramDigest}, worker ${workerId} holds ${paramDigest}; ` +
          'nothing was saved; resume from the last checkpoint',
      );
    for (const entry of files) {
      assertInvariant(!reported.has(entry.file), `${entry.file} was reported twice, also by worker ${workerId}`);
      reported.set(entry.file, entry);
    }
  }
  const shards = shardPlan.map(({ file }) => {
    const entry = reported.get(file);
    assertInvariant(entry !== undefined, `no worker reported ${file}`);
    return entry;
  });
  assertInvariant(reported.size === shards.length, 'workers reported files that are not in the shard plan');
  for (const { workerId, files } of workerFiles)
    for (const { file, bytes } of files) {
      const path = join(writingFolder, file);
      const size = (await statIfThere(path))?.size;
      if (size !== bytes)
        throw new ShardMissing(workerId, path, bytes, size === undefined ? 'no file is there' : `${size} B are there`);
    }
  const extra = (await readdir(writingFolder)).filter((name) => !reported.has(name));
  assertInvariant(extra.length === 0, `${writingFolder} holds files that no worker reported: ${extra.join(', ')}`);
  return shards;
}

/** Writes all files other than shards and manifest. */
async function writeRest(init: PublishInit): Promise<FileEntry[]> {
  const { writingFolder, hfConfig, shardPlan, tokenizerFiles, signal } = init;
  const run = runRecordSchema.safeParse(init.run);
  assertInvariant(run.success, `run record: ${run.success ? '' : z.prettifyError(run.error)}`);
  const texts = new Map<string, unknown>([
    [CONFIG_FILE, hfConfig],
    [GENERATION_CONFIG_FILE, generationConfigOf(hfConfig)],
    [RUN_FILE, init.run],
  ]);
  const shards = shardPlan.filter(({ kind }) => kind === 'model');
  const totalBytes = shards.reduce((sum, { bytes }) => sum + bytes, 0);
  if (shards.length > 1) texts.set(MODEL_INDEX_FILE, modelIndexOf(shards, totalBytes));

  for (const [file, content] of texts) await writeNewFile(join(writingFolder, file), encodeHuggingFaceJson(content));
  for (const file of tokenizerFiles)
    if ('source' in file) await copyDurably(file.source, join(writingFolder, file.name));
    else await writeNewFile(join(writingFolder, file.name), file.text);
  const files = [...texts.keys(), ...tokenizerFiles.map(({ name }) => name)];
  const entries: FileEntry[] = [];
  for (const file of files) entries.push({ file, ...(await hashFile(join(writingFolder, file), signal)) });
  return entries;
}

/**
 * Makes the final name available.
 * @returns false where the step is already published with the same parameters
 */
async function makeWay(finalFolder: string, run: RunRecord): Promise<boolean> {
  try {
    await stat(finalFolder);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return true;
    throw toStorageError(error, 'read', finalFolder);
  }
  const { problems } = await verifyCheckpoint(finalFolder);
  if (problems.length > 0) {
    await removeCheckpoint(finalFolder, run.step);
    return true;
  }
  const existing = await readRunRecord(finalFolder);
  if (existing.paramDigest === run.paramDigest && existing.configHash === run.configHash) return false;
  throw new TrainerError(
    'CHECKPOINT_MISMATCH',
    `${finalFolder} holds another checkpoint of that step: expected parameters with digest ${run.paramDigest} and ` +
      `configuration ${run.configHash}, found ${existing.paramDigest} and ${existing.configHash}; it was left as it is`,
  );
}

/** The reports of all writers of one checkpoint. */
export interface WrittenCheckpoint {
  readonly step: number;
  /** Place of the plan after the step. */
  readonly cursor: RunCursor;
  readonly generation: number;
  readonly worldSize: number;
  readonly writingFolder: string;
  readonly workerFiles: readonly WorkerFiles[];
  readonly paramDigest: string;
}
