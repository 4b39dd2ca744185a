/**
 * Sources → token shards of a whole mixture, or of one member's share of it: plan, make units, merge.
 *
 * Resumable and deterministic: a unit that is there, whole and made from the same source, template, tokenizer and lengths, is not
 * made again; the same mixture gives the same bytes anywhere, whoever makes its units. Any number of processes may prepare the
 * same folder at the same time. mixture.json is written last: without it there is no prepared mixture.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { assertInvariant } from '../../shared/errors.ts';
import { removeAbandoned } from '../../shared/partial-folders.ts';
import { loadTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { tokenBytesOf } from './ensure-unit.ts';
import { freeRoom } from './estimate-room.ts';
import { findFinishedTask } from './finished-task.ts';
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
import { dealUnits, leftToMake, PrepareWork, type Deal } from './prepare-work.ts';
import { sha256Of } from './prepared-format.ts';
import { publishFile } from './publish-file.ts';
import { surveyTask, tidyTaskFolder, type TaskSurvey } from './survey-tasks.ts';

export type { PreparedTaskReport, PrepareInit, PrepareReport } from './prepare-options.ts';

/** What a member of a job array left behind. */
export interface ShardReport {
  readonly folder: string;
  /** Tasks of which units are missing, which other members make; empty: the mixture is finished. */
  readonly missing: readonly { readonly task: string; readonly units: readonly number[]; readonly numUnits: number }[];
  /** Units that this process made. */
  readonly unitsMade: number;
  /** Where nothing is missing. */
  readonly finished?: PrepareReport;
}

/**
 * Prepares all of the mixture.
 * @throws CONFIG_INVALID (lengths, threshold, a column), SOURCE_UNREADABLE and SOURCE_MALFORMED (of all tasks at once), WORKER_LOST
 *   (a unit that ends every process), TOKENIZER_INVALID, PATH_UNUSABLE, DISK_FULL, ABORTED. Finished units stay, and are kept by
 *   the next call.
 */
export async function prepareMixture(init: Omit<PrepareInit, 'shard' | 'mergeOnly'>): Promise<PrepareReport> {
  const { finished } = await prepareShard(init);
  assertInvariant(finished !== undefined, 'all units are there after all were made');
  return finished;
}

/** Prepares the units dealt to `init.shard`, or all; merges where no other is missing. @throws as prepareMixture */
export async function prepareShard(init: PrepareInit): Promise<ShardReport> {
  const settings = completeOptions(init);
  const { mixture, featureLengths, outDir, badRowThreshold } = settings;
  const preparables = listPreparables(mixture, featureLengths);
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  const planInit = planInitOf(settings, tokenizer, true);

  const reports = new Map<string, PreparedTaskReport>();
  if (settings.pinned === true)
    for (const preparable of preparables.filter(({ task }) => isRemote(task.source))) {
      const { name } = preparable.task;
      const manifest = await findFinishedTask(outDir, name, hashDeclared(preparable, planInit));
      if (manifest !== undefined)
        reports.set(name, { name, outcome: 'reused', unitsMade: 0, unitsKept: manifest.numUnits, manifest });
    }
  const open = preparables.filter(({ task }) => !reports.has(task.name));
  const plans = await planTasks(open, planInit);
  await makeFolder(outDir);
  for (const plan of plans) await tidyTaskFolder(outDir, plan);
  const surveys = [];
  for (const plan of plans) surveys.push(await surveyTask(outDir, plan));

  const deal = dealUnits(surveys, settings);
  await tellOfRoom(settings, surveys, deal, tokenBytesOf(tokenizer));
  await retract(outDir, deal.tasksToMake);
  const work = new PrepareWork(settings, tokenizer, surveys, deal, async (run) => {
    const report = await run.merge(outDir, tokenBytesOf(tokenizer), badRowThreshold);
    reports.set(report.name, report);
    settings.onTask?.(report);
  });
  const unitsMade = await work.run();

  const missing = work.missing();
  if (missing.length > 0) return { folder: outDir, missing, unitsMade };
  const tasks = preparables.map(({ task }) => reports.get(task.name)).filter((report) => report !== undefined);
  assertInvariant(tasks.length === preparables.length, 'every task has a report');
  const hash = await finish(settings, tokenizer, tasks);
  return { folder: outDir, missing: [], unitsMade, finished: { folder: outDir, hash, tasks } };
}

export function planInitOf(settings: PrepareSettings, tokenizer: Tokenizer, keepPlans: boolean): PlanInit {
  const { outDir, access, featureLengths, unitBytes, shardBytes, refresh = false, signal } = settings;
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

/** Says beforehand where the disk may be too small. */
async function tellOfRoom(
  { outDir, onNote }: PrepareSettings,
  surveys: readonly TaskSurvey[],
  deal: Deal,
  tokenBytes: 2 | 4,
): Promise<void> {
  const needed = surveys.reduce((sum, survey) => sum + leftToMake(survey, deal, tokenBytes).roomBytes, 0);
  const free = await freeRoom(outDir);
  if (needed > free)
    onNote?.(
      `${outDir}: about ${Math.ceil(needed / 1e6)} MB are needed, ${Math.floor(free / 1e6)} MB are free; it may become full`,
    );
}

/** Takes back what says that the mixture and these tasks are finished, before anything under it changes. */
async function retract(outDir: string, tasks: readonly string[]): Promise<void> {
  if (tasks.length === 0) return;
  const paths = [join(outDir, MIXTURE_FILE), ...tasks.map((name) => join(outDir, name, MANIFEST_FILE))];
  for (const path of paths)
    await rm(path, { force: true }).catch((error: unknown) => {
      throw toStorageError(error, 'remove', path);
    });
}

/** Writes mixture.json. @returns its hash */
async function finish(
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
