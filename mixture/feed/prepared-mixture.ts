/** A prepared mixture, open and verified: what the coordinator plans from and the feed threads read. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { TaskSize } from '../plan/rates.ts';
import {
  MANIFEST_FILE,
  MIXTURE_FILE,
  parseMixtureManifest,
  parseTaskManifest,
  sha256Of,
  type MixtureManifest,
} from '../prepare/manifest.ts';
import type { FeatureLengths } from '../tasks/task.ts';
import { openPreparedTask, type PreparedTask } from './prepared-task.ts';
import { ShardFiles } from './shard-files.ts';

export interface PreparedMixture {
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
  /** Compares the SHA-256 of every token shard, reading all of them once. Default true; sizes and manifests are checked always. */
  readonly verify?: boolean;
  /** The hash that the run was started with. */
  readonly expectedHash?: string;
}

/**
 * @throws PATH_UNUSABLE where the folder holds no finished mixture; SHARD_CORRUPT with the file, what was expected and what was found;
 *   MIXTURE_MISMATCH where it is another mixture than expected
 */
export async function openPreparedMixture(
  folder: string,
  { verify = true, expectedHash }: OpenOptions = {},
): Promise<PreparedMixture> {
  const path = join(folder, MIXTURE_FILE);
  const { manifest, hash } = parseMixtureManifest(await readText(path, 'PATH_UNUSABLE'), path);
  if (expectedHash !== undefined && hash !== expectedHash)
    throw new TrainerError(
      'MIXTURE_MISMATCH',
      `${folder}: expected the prepared mixture ${expectedHash}, found ${hash} (${manifest.name}); ` +
        'prepare it from the same sources, templates, tokenizer and lengths as the run was started with',
    );
  const files = new ShardFiles();
  const tasks: PreparedTask[] = [];
  for (const { name, numExamples, manifest: expected } of manifest.tasks) {
    const taskFolder = join(folder, name);
    const manifestPath = join(taskFolder, MANIFEST_FILE);
    const text = await readText(manifestPath, 'SHARD_CORRUPT');
    if (sha256Of(text) !== expected)
      throw new TrainerError(
        'SHARD_CORRUPT',
        `${manifestPath}: expected SHA-256 ${expected}, found ${sha256Of(text)}; run "exmix prepare" again`,
      );
    const task = await openPreparedTask(taskFolder, parseTaskManifest(text, manifestPath), files, verify);
    if (task.name !== name || task.numExamples !== numExamples)
      throw new TrainerError('SHARD_CORRUPT', `${manifestPath}: is not the task ${name} of ${numExamples} examples`);
    tasks.push(task);
  }
  return {
    folder,
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

async function readText(path: string, codeIfMissing: 'PATH_UNUSABLE' | 'SHARD_CORRUPT'): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT')
      throw new TrainerError(codeIfMissing, `${path}: expected a prepared mixture, found none; run "exmix prepare"`, {
        cause: error,
      });
    throw toStorageError(error, 'read', path);
  }
}
