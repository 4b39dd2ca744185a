/** Finds the existing parts of a task from its manifest and the records of its units, without reading a shard. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { statIfThere, toStorageError } from '../../shared/atomic-file.ts';
import { readIfThere } from '../../shared/small-file.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { removeAbandoned } from '../../shared/partial-folders.ts';
import {
  describeChange,
  MANIFEST_FILE,
  parseTaskManifest,
  serializeTaskManifest,
  type TaskManifest,
} from './manifest.ts';
import type { TaskPlan } from './plan-tasks.ts';
import { filesOf } from './prepared-format.ts';
import { readUnitState, unitFolderName, unitNumberOf } from './unit-folder.ts';

export interface TaskSurvey {
  readonly plan: TaskPlan;
  /** By unit: whether it seems to exist. */
  readonly isThere: readonly boolean[];
  /** Bytes of the shards of existing units. */
  readonly storedBytes: number;
  /** Why some or all existing parts cannot be used. */
  readonly change?: string;
}

/** @throws PATH_UNUSABLE */
export async function surveyTask(outDir: string, plan: TaskPlan): Promise<TaskSurvey> {
  const folder = join(outDir, plan.name);
  const isThere: boolean[] = [];
  let storedBytes = 0;
  let stale: string | undefined;
  for (const number of plan.units.keys()) {
    const key = { task: plan.name, number, identity: plan.identityHash };
    const found = await readUnitState(join(folder, unitFolderName(number)), key);
    isThere.push(found.state === 'whole');
    if (found.state === 'whole')
      storedBytes += found.record.shards.flatMap(filesOf).reduce((sum, { bytes }) => sum + bytes, 0);
    else if (found.state !== 'missing') stale ??= found.reason;
  }
  const change = (await describeManifest(join(folder, MANIFEST_FILE), plan)) ?? stale;
  return { plan, isThere, storedBytes, ...(change === undefined ? {} : { change }) };
}

/** Why an existing manifest does not match the plan. */
async function describeManifest(path: string, { name, identity }: TaskPlan): Promise<string | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    const manifest = parseTaskManifest(text, path);
    if (manifest.name !== name || serializeTaskManifest(manifest) !== text) return `${path} is damaged`;
    return describeChange(manifest.identity, identity);
  } catch (error) {
    return toTrainerError(error).message.split('\n')[0];
  }
}

/**
 * Creates the folder of a task. Removes parts of dead processes, of units that no longer exist, and of the first
 * layout.
 */
export async function cleanTaskFolder(outDir: string, { name, units }: TaskPlan): Promise<void> {
  const folder = join(outDir, name);
  try {
    await mkdir(folder, { recursive: true });
    await removeAbandoned(folder);
    for (const entry of await readdir(folder)) {
      const number = unitNumberOf(entry);
      if (entry.startsWith('shard-') || (number !== undefined && number >= units.length))
        await rm(join(folder, entry), { recursive: true, force: true });
    }
  } catch (error) {
    throw toStorageError(error, 'clean up', folder);
  }
}

/**
 * A finished task with only remote sources, used as it is: no server is asked and no shard is read.
 * @param declared hash of the declaration in the mixture (hashDeclared)
 * @returns undefined if there is none, it was made from another declaration, or a shard is missing or has another size
 * @throws PATH_UNUSABLE
 */
export async function findFinishedTask(
  outDir: string,
  name: string,
  declared: string,
): Promise<TaskManifest | undefined> {
  const folder = join(outDir, name);
  const path = join(folder, MANIFEST_FILE);
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  let manifest: TaskManifest;
  try {
    manifest = parseTaskManifest(text, path);
  } catch (error) {
    if (toTrainerError(error).code === 'SHARD_CORRUPT') return undefined; // damaged: it is planned and made again
    throw error;
  }
  if (manifest.name !== name || manifest.declared !== declared || serializeTaskManifest(manifest) !== text)
    return undefined;
  for (const { file, bytes } of manifest.shards.flatMap(filesOf)) {
    const found = await statIfThere(join(folder, file));
    if (found?.size !== bytes) return undefined;
  }
  return manifest;
}
