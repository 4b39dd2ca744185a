/**
 * Reads checkpoints: verifies every byte before it uses anything, and loads only tensors that fit the model.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { toStorageError } from '../atomic-file.ts';
import { throwIfAborted } from '../abort.ts';
import { listNames } from '../list-names.ts';
import { assertInvariant, TrainerError } from '../errors.ts';
import { isTooDeep } from '../json-keys.ts';
import { asFloat32, readSafetensors } from '../safetensors.ts';
import { readSmallFile } from '../small-file.ts';
import { checkpointName, RUN_FILE, stepOfFolder } from './layout.ts';
import type { Manifest } from './manifest.ts';
import { parameterDigest } from './parameter-digest.ts';
import { runRecordSchema, type RunRecord } from './run-record.ts';
import type { ShardKind, TensorSpec } from './shard-plan.ts';
import { describeProblem, toCorruptError, verifyCheckpoint } from './verify.ts';

export interface Checkpoint {
  readonly path: string;
  readonly manifest: Manifest;
  readonly run: RunRecord;
  /**
   * The parameters by name, each in memory of its own.
   * @param expected of the model; names and shapes must be exactly these
   * @throws CHECKPOINT_MISMATCH listing every difference; CHECKPOINT_CORRUPT; ABORTED
   */
  loadParameters(expected: readonly TensorSpec[], signal?: AbortSignal): Promise<Map<string, Float32Array>>;
  /** The optimizer slots by name, as `loadParameters`. */
  loadOptimizerSlots(expected: readonly TensorSpec[], signal?: AbortSignal): Promise<Map<string, Float32Array>>;
}

/**
 * Verifies every byte of a checkpoint and reads its record.
 * @throws CHECKPOINT_CORRUPT listing all problems; PATH_UNUSABLE if there is no such folder; ABORTED
 */
export async function readCheckpoint(path: string, signal?: AbortSignal): Promise<Checkpoint> {
  const report = await verifyCheckpoint(path, signal === undefined ? {} : { signal });
  if (report.problems.length > 0) throw toCorruptError(report);
  const { manifest } = report;
  assertInvariant(manifest !== undefined, 'a report without problems has a manifest');
  const run = await readRunRecord(path);
  if (run.step !== manifest.step)
    throw corrupt(path, `${RUN_FILE} is of step ${run.step}, the manifest of step ${manifest.step}`);
  return {
    path,
    manifest,
    run,
    async loadParameters(expected, loadSignal) {
      const parameters = await loadTensors(path, manifest, 'model', expected, loadSignal);
      const digest = parameterDigest(parameters);
      if (digest !== run.paramDigest)
        throw corrupt(path, `expected parameters with digest ${run.paramDigest}, found ${digest}`);
      return parameters;
    },
    loadOptimizerSlots: (expected, loadSignal) => loadTensors(path, manifest, 'optimizer', expected, loadSignal),
  };
}

/** `run.json` of a checkpoint, not verified against the manifest. @throws CHECKPOINT_CORRUPT, PATH_UNUSABLE */
export async function readRunRecord(path: string): Promise<RunRecord> {
  const file = join(path, RUN_FILE);
  let text: string;
  try {
    text = (await readSmallFile(file)).toString('utf8');
  } catch (error) {
    throw toStorageError(error, 'read', file);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new TrainerError('CHECKPOINT_CORRUPT', `${file}: expected JSON: ${String(error)}`, { cause: error });
  }
  if (isTooDeep(text)) throw corrupt(path, `${RUN_FILE} has too many lists and objects inside each other`);
  const parsed = runRecordSchema.safeParse(json);
  if (!parsed.success) throw corrupt(path, `${RUN_FILE}: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

export interface SkippedCheckpoint {
  readonly path: string;
  readonly reason: string;
}

export interface LatestCheckpoint {
  /** Absent if there is no valid checkpoint. */
  readonly latest?: { readonly path: string; readonly step: number };
  /** Newer checkpoints that are not valid, newest first; the caller logs them. */
  readonly skipped: readonly SkippedCheckpoint[];
}

/**
 * The newest valid checkpoint; reads every byte of the candidates from the newest down to the first valid one.
 * @param runFolder a run folder, or the `checkpoints` folder in it
 * @throws PATH_UNUSABLE, ABORTED
 */
export async function findLatestCheckpoint(runFolder: string, signal?: AbortSignal): Promise<LatestCheckpoint> {
  const skipped: SkippedCheckpoint[] = [];
  for (const { path, step } of (await listCheckpointFolders(runFolder)).reverse()) {
    const report = await verifyCheckpoint(path, signal === undefined ? {} : { signal });
    if (report.problems.length === 0) return { latest: { path, step }, skipped };
    skipped.push({ path, reason: report.problems.map(describeProblem).join('; ') });
  }
  return { skipped };
}

/**
 * The `step-<n>` folders of a run, ascending by step, valid or not.
 * @param runFolder a run folder, or the `checkpoints` folder in it
 * @throws PATH_UNUSABLE
 */
export async function listCheckpointFolders(runFolder: string): Promise<{ path: string; step: number }[]> {
  let folder = runFolder;
  try {
    const entries = await readdir(runFolder);
    if (entries.includes('checkpoints')) folder = join(runFolder, 'checkpoints');
    const names = folder === runFolder ? entries : await readdir(folder);
    return names
      .flatMap((name) => {
        const step = stepOfFolder(name);
        return step === undefined ? [] : [{ path: join(folder, checkpointName(step)), step }];
      })
      .sort((a, b) => a.step - b.step);
  } catch (error) {
    throw toStorageError(error, 'read', folder);
  }
}

async function loadTensors(
  path: string,
  manifest: Manifest,
  kind: ShardKind,
  expected: readonly TensorSpec[],
  signal: AbortSignal | undefined,
): Promise<Map<string, Float32Array>> {
  const wanted = new Map(expected.map(({ name, shape }) => [name, shape]));
  const loaded = new Map<string, Float32Array>();
  const problems: string[] = [];
  const isOfKind = (file: string) => file.startsWith(kind) && file.endsWith('.safetensors');
  for (const { file } of manifest.files.filter((entry) => isOfKind(entry.file))) {
    throwIfAborted(signal, `loading ${path}`);
    // Decided by the header: a tensor that the model does not have takes no memory.
    const { tensors } = await readSafetensors(join(path, file), ({ name, shape: found }) => {
      const shape = wanted.get(name);
      const stated = `[${found.join(', ')}]`;
      if (shape === undefined) problems.push(`${name} ${stated} is in ${file}, the run has no such tensor`);
      else if (`[${shape.join(', ')}]` !== stated)
        problems.push(`${name}: expected shape [${shape.join(', ')}], found ${stated} in ${file}`);
      wanted.delete(name);
      return problems.length === 0;
    });
    for (const tensor of tensors.values()) loaded.set(tensor.name, asFloat32(tensor));
  }
  for (const name of wanted.keys()) problems.push(`${name} is missing`);
  if (problems.length > 0)
    throw new TrainerError(
      'CHECKPOINT_MISMATCH',
      `${path} is not of this ${kind === 'model' ? 'model' : 'optimizer'}: ${listNames(problems, { most: 10, separator: '; ' })}; ` +
        'resume with the configuration in its run.json',
    );
  return loaded;
}

function corrupt(path: string, problem: string): TrainerError {
  return new TrainerError('CHECKPOINT_CORRUPT', `${path}: ${problem}; it was not written by this version of exmix`);
}
