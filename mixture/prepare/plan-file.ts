/**
 * Plan files of a preparation that has begun, `.plans/<task>.json`: the resolved source of a task with files on a hub,
 * a web server or in a bucket. A resumed preparation and other members of a job array read them. So they use the same
 * revision and file versions, and ask no server. They are removed when the mixture is finished.
 *
 * They contain no credentials. For a URL that the mixture itself gives, only the name is stored. Files that a folder or
 * glob of a bucket contains keep their s3: URL.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { replaceFile, toStorageError } from '../../shared/atomic-file.ts';
import { readIfThere } from '../../shared/small-file.ts';
import { isLocalLocation } from '../../shared/storage/location.ts';
import type { ResolvedSource, SourceUnit } from '../sources/resolved-source.ts';
import { SOURCE_FORMATS, type SourceFile, type SourceSpec } from '../tasks/task.ts';
import { countSchema as count } from './prepared-format.ts';
import { partSchema } from './unit-record.ts';

const PLANS_FOLDER = '.plans';
/** Raise it when the meaning of a plan changes: plans with another version are ignored. */
const PLAN_VERSION = 2;

const planSchema = z.strictObject({
  version: z.literal(PLAN_VERSION),
  /** Hash of the declaration of the task in the mixture, and of the hub. */
  key: z.string(),
  source: z.strictObject({
    format: z.enum(SOURCE_FORMATS),
    quotes: z.boolean(),
    origin: z
      .strictObject({
        dataset: z.string(),
        config: z.string().exactOptional(),
        split: z.string(),
        revision: z.string(),
      })
      .exactOptional(),
    expectedRows: count.exactOptional(),
    files: z.array(
      z.strictObject({
        name: z.string(),
        /** Empty if the mixture gives the location. */
        location: z.string(),
        bytes: count,
        version: z.string(),
        storageVersion: z.string().exactOptional(),
      }),
    ),
  }),
  units: z.array(
    z.strictObject({
      file: count,
      bytes: count,
      part: partSchema,
    }),
  ),
});

export interface SourcePlan {
  readonly source: ResolvedSource;
  readonly units: readonly SourceUnit[];
}

/** Whether all files of a source are read over the network. */
export function isRemote(spec: SourceSpec): boolean {
  return spec.kind === 'hub' || spec.files.every(({ location }) => !isLocalLocation(location));
}

/** @returns undefined if there is no plan with this key @throws PATH_UNUSABLE */
export async function readPlan(
  outDir: string,
  task: string,
  spec: SourceSpec,
  key: string,
): Promise<SourcePlan | undefined> {
  const path = planPath(outDir, task);
  const text = await readIfThere(path);
  const plan = text === undefined ? undefined : planSchema.safeParse(parseJson(text)).data;
  if (plan?.key !== key) return undefined;
  const { source, units } = plan;
  if (spec.kind === 'hub') return { source, units };
  const given = [...spec.files];
  const files = source.files.map((file) => {
    const location =
      file.location === '' ? takeFirst(given, ({ name }) => name === file.name)?.location : file.location;
    return location === undefined ? undefined : { ...file, location };
  });
  const known = files.filter((file) => file !== undefined);
  return known.length === files.length ? { source: { ...source, files: known }, units } : undefined;
}

/** @throws PATH_UNUSABLE, DISK_FULL */
export async function writePlan(
  outDir: string,
  task: string,
  spec: SourceSpec,
  key: string,
  { source, units }: SourcePlan,
): Promise<void> {
  const folder = join(outDir, PLANS_FOLDER);
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', folder);
  });
  const given = spec.kind === 'hub' ? [] : [...spec.files];
  const files = source.files.map((file) => {
    const isGiven = takeFirst(given, ({ name, location }) => name === file.name && location === file.location);
    return isGiven === undefined ? file : { ...file, location: '' };
  });
  const plan = { version: PLAN_VERSION, key, source: { ...source, files }, units };
  await replaceFile(planPath(outDir, task), `${JSON.stringify(plan)}\n`);
}

/** Removes the plan of a task if nothing could be made of it. The next attempt resolves its source again. */
export async function removePlan(outDir: string, task: string): Promise<void> {
  const path = planPath(outDir, task);
  await rm(path, { force: true }).catch((error: unknown) => {
    throw toStorageError(error, 'remove', path);
  });
}

/** Removes all plans: the mixture is finished. */
export async function removePlans(outDir: string): Promise<void> {
  const folder = join(outDir, PLANS_FOLDER);
  await rm(folder, { recursive: true, force: true }).catch((error: unknown) => {
    throw toStorageError(error, 'remove', folder);
  });
}

/** Removes the first match from `left` and returns it: several files of a source may have the same name. */
function takeFirst(left: SourceFile[], isMatch: (file: SourceFile) => boolean): SourceFile | undefined {
  const at = left.findIndex(isMatch);
  return at < 0 ? undefined : left.splice(at, 1)[0];
}

function planPath(outDir: string, task: string): string {
  return join(outDir, PLANS_FOLDER, `${task}.json`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // truncated by a crash of another version: planned again
  }
}
