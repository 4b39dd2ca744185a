/** What of a task is there already: a look at its manifest and the records of its units, without reading a shard. */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readIfThere, toStorageError } from '../../shared/atomic-file.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { removeAbandoned } from '../../shared/partial-folders.ts';
import { describeChange, MANIFEST_FILE, parseTaskManifest, serializeTaskManifest } from './manifest.ts';
import type { TaskPlan } from './plan-tasks.ts';
import { filesOf } from './shard-entry.ts';
import { lookAtUnit, unitFolderName, unitNumberOf } from './unit-folder.ts';

export interface TaskSurvey {
  readonly plan: TaskPlan;
  /** By unit: whether it seems to be there. */
  readonly isThere: readonly boolean[];
  /** Bytes of the shards of those. */
  readonly storedBytes: number;
  /** Why what is there cannot be used, or not all of it. */
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
    const found = await lookAtUnit(join(folder, unitFolderName(number)), key);
    isThere.push(found.state === 'whole');
    if (found.state === 'whole')
      storedBytes += found.record.shards.flatMap(filesOf).reduce((sum, { bytes }) => sum + bytes, 0);
    else if (found.state !== 'missing') stale ??= found.reason;
  }
  const change = (await describeManifest(join(folder, MANIFEST_FILE), plan)) ?? stale;
  return { plan, isThere, storedBytes, ...(change === undefined ? {} : { change }) };
}

/** Why a manifest that is there is not that of the plan. */
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

/** Makes the folder of a task, and removes what is left of dead processes, of more units, and of the first layout. */
export async function tidyTaskFolder(outDir: string, { name, units }: TaskPlan): Promise<void> {
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
    throw toStorageError(error, 'tidy', folder);
  }
}
