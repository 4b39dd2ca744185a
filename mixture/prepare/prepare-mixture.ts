/**
 * Sources → token shards of a whole mixture, or of one member's share: plan, make units, merge.
 *
 * It is resumable and deterministic. A unit is kept if it exists, is whole, and was made from the same source,
 * template, tokenizer and lengths. The same mixture gives the same bytes on any machine and for any process. Any number
 * of processes may prepare the same folder at the same time. mixture.json is written last: without it there is no
 * prepared mixture.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { assertInvariant, toTrainerError } from '../../shared/errors.ts';
import { removeAbandoned } from '../../shared/partial-folders.ts';
import { rememberModules } from '../tasks/known-modules.ts';
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { tokenBytesOf } from './ensure-unit.ts';
import { freeRoom } from './estimate-room.ts';
import {
  createMixtureManifest,
  MANIFEST_FILE,
  MIXTURE_FILE,
  serializeMixtureManifest,
  serializeTaskManifest,
} from './manifest.ts';
import { isRemote, removePlans } from './plan-file.ts';
import { hashDeclared, planTasks, type PlanInit } from './plan-tasks.ts';
import { listPreparables } from './preparable-task.ts';
import {
  completeOptions,
  type PreparedTaskReport,
  type PrepareInit,
  type PrepareReport,
  type PrepareSettings,
} from './prepare-options.ts';
import { assignUnits, remainingUnits, PrepareWork, type Assignment } from './prepare-work.ts';
import { sha256Of } from './prepared-format.ts';
import { publishFile } from './publish-file.ts';
import { findFinishedTask, surveyTask, cleanTaskFolder, type TaskSurvey } from './survey-tasks.ts';

export type { PreparedTaskReport, PrepareInit, PrepareReport } from './prepare-options.ts';

/** The result of one member of a job array. */
export interface ShardReport {
  readonly folder: string;
  /** Tasks with missing units, which other members make. Empty if the mixture is finished. */
  readonly missing: readonly { readonly task: string; readonly units: readonly number[]; readonly numUnits: number }[];
  /** Units that this process made. */
  readonly unitsMade: number;
  /** Set if no unit is missing. */
  readonly finished?: PrepareReport;
}

/**
 * Prepares the whole mixture.
 * @throws CONFIG_INVALID (lengths, threshold, a column), SOURCE_UNREADABLE and SOURCE_MALFORMED (for all tasks at
 * once), WORKER_LOST (a unit that ends every process), TOKENIZER_INVALID, PATH_UNUSABLE, DISK_FULL, ABORTED. Finished
 * units stay; the next call keeps them.
 */
export async function prepareMixture(init: Omit<PrepareInit, 'units'>): Promise<PrepareReport> {
  const { finished } = await prepareShard(init);
  assertInvariant(finished !== undefined, 'all units exist after all were made');
  return finished;
}

/** Prepares the units in `init.units`, and merges if no other unit is missing. @throws as prepareMixture */
export async function prepareShard(init: PrepareInit): Promise<ShardReport> {
  const settings = completeOptions(init);
  const { mixture, featureLengths, outDir, badRowThreshold } = settings;
  const preparables = listPreparables(mixture, featureLengths);
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const planInit = planInitOf(settings, tokenizer, true);

  const reports = new Map<string, PreparedTaskReport>();
  if (settings.pinned)
    for (const preparable of preparables.filter(({ task }) => isRemote(task.source))) {
      const { name } = preparable.task;
      const manifest = await findFinishedTask(outDir, name, hashDeclared(preparable, planInit));
      if (manifest !== undefined)
        reports.set(name, { name, outcome: 'reused', unitsMade: 0, unitsKept: manifest.numUnits, manifest });
    }
  const open = preparables.filter(({ task }) => !reports.has(task.name));
  const plans = await planTasks(open, planInit);
  await makeFolder(outDir);
  for (const plan of plans) await cleanTaskFolder(outDir, plan);
  const surveys = [];
  for (const plan of plans) surveys.push(await surveyTask(outDir, plan));

  const assignment = assignUnits(surveys, settings);
  await warnIfDiskTooSmall(settings, surveys, assignment, tokenBytesOf(tokenizer));
  await removeManifests(outDir, assignment.tasksToMake);
  const work = new PrepareWork(settings, tokenizer, surveys, assignment, async (run) => {
    const report = await run.merge(outDir, tokenBytesOf(tokenizer), badRowThreshold);
    reports.set(report.name, report);
    settings.onTask?.(report);
  });
  const unitsMade = await work.run();

  const missing = work.missing();
  if (missing.length > 0) return { folder: outDir, missing, unitsMade };
  const tasks = preparables.map(({ task }) => reports.get(task.name)).filter((report) => report !== undefined);
  assertInvariant(tasks.length === preparables.length, 'every task has a report');
  const hash = await writeMixtureManifest(settings, tokenizer, tasks);
  await rememberModules(mixture.modules ?? []).catch((error: unknown) => {
    settings.onNote?.(`a resume by --resume alone will ask for --trust-modules: ${toTrainerError(error).message}`);
  });
  return { folder: outDir, missing: [], unitsMade, finished: { folder: outDir, hash, tasks } };
}

export function planInitOf(settings: PrepareSettings, tokenizer: Tokenizer, keepPlans: boolean): PlanInit {
  const { outDir, access, featureLengths, unitBytes, shardBytes, refresh, signal } = settings;
  return {
    outDir,
    access,
    tokenizerHash: tokenizer.hash,
    featureLengths,
    unitBytes,
    shardBytes,
    refresh,
    keepPlans,
    ...(signal === undefined ? {} : { signal }),
  };
}

async function makeFolder(outDir: string): Promise<void> {
  await mkdir(outDir, { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', outDir);
  });
  await removeAbandoned(outDir);
}

/** Warns before the work starts if the disk may be too small. */
async function warnIfDiskTooSmall(
  { outDir, onNote }: PrepareSettings,
  surveys: readonly TaskSurvey[],
  assignment: Assignment,
  tokenBytes: 2 | 4,
): Promise<void> {
  const needed = surveys.reduce((sum, survey) => sum + remainingUnits(survey, assignment, tokenBytes).roomBytes, 0);
  const free = await freeRoom(outDir);
  if (needed > free)
    onNote?.(
      `${outDir}: needs about ${Math.ceil(needed / 1e6)} MB, has ${Math.floor(free / 1e6)} MB free; the disk may become full`,
    );
}

/** Removes mixture.json and the manifests of these tasks before their units change. */
async function removeManifests(outDir: string, tasks: readonly string[]): Promise<void> {
  if (tasks.length === 0) return;
  const paths = [join(outDir, MIXTURE_FILE), ...tasks.map((name) => join(outDir, name, MANIFEST_FILE))];
  for (const path of paths)
    await rm(path, { force: true }).catch((error: unknown) => {
      throw toStorageError(error, 'remove', path);
    });
}

/** Writes mixture.json. @returns its hash */
async function writeMixtureManifest(
  { mixture, featureLengths: { inputs, targets }, outDir }: PrepareSettings,
  { hash: tokenizerHash, vocabSize, numExtraIds }: Tokenizer,
  tasks: readonly PreparedTaskReport[],
): Promise<string> {
  const manifest = createMixtureManifest({
    name: mixture.name,
    tokenizer: { hash: tokenizerHash, vocabSize, numExtraIds },
    featureLengths: { inputs, targets },
    tasks: tasks.map(({ name, manifest: of }) => ({
      name,
      kind: of.identity.kind,
      numExamples: of.numExamples,
      manifest: sha256Of(serializeTaskManifest(of)),
    })),
  });
  const { text, hash } = serializeMixtureManifest(manifest);
  await publishFile(outDir, MIXTURE_FILE, text);
  await removePlans(outDir);
  return hash;
}
