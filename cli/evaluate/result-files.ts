/** The folder of an evaluation: results.json, predictions, times. Each file is written whole; results.json comes last. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { replaceFile, toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { readIfThere } from '../../shared/small-file.ts';
import type { ComparedSide } from '../../evaluation/compare-results.ts';
import {
  parsePredictions,
  parseResults,
  RESULTS_FILE,
  type Results,
  type SetResult,
} from '../../evaluation/results.ts';

const TIMES_FILE = 'times.json';
/** Largest file of predictions, B. */
const MAX_PREDICTIONS_BYTES = 2_147_483_648;

/** Set (`task/name`) → examples of it that were computed, and the time that they took, ms. */
const timesSchema = z.record(z.string(), z.object({ numExamples: z.number(), ms: z.number() }));
export type Times = z.output<typeof timesSchema>;

/** Key of a set in the times. */
export function timeKey({ task, name }: Pick<SetResult, 'task' | 'name'>): string {
  return `${task}/${name}`;
}

export interface ResultFiles {
  readonly results: string;
  /** Path in the folder → its lines. */
  readonly predictions: ReadonlyMap<string, string>;
  /** Of the sets that were computed now. */
  readonly times: Times;
}

/** @throws DISK_FULL, PATH_UNUSABLE */
export async function writeResultFiles(folder: string, { results, predictions, times }: ResultFiles): Promise<Times> {
  const predictionsFolder = join(folder, 'predictions');
  await mkdir(predictionsFolder, { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', predictionsFolder);
  });
  for (const [file, lines] of predictions) await replaceFile(join(folder, file), lines);
  const all = { ...(await readTimes(folder)), ...times };
  await replaceFile(join(folder, TIMES_FILE), `${JSON.stringify(all, null, 2)}\n`);
  await replaceFile(join(folder, RESULTS_FILE), results);
  return all;
}

async function readTimes(folder: string): Promise<Times> {
  const text = await readIfThere(join(folder, TIMES_FILE));
  if (text === undefined) return {};
  try {
    return timesSchema.parse(JSON.parse(text));
  } catch {
    return {}; // they are for people only
  }
}

/** @throws PATH_UNUSABLE, CONFIG_INVALID */
export async function readResultsIfThere(folder: string): Promise<Results | undefined> {
  const path = join(folder, RESULTS_FILE);
  const text = await readIfThere(path);
  return text === undefined ? undefined : parseResults(text, path);
}

/** @throws PATH_UNUSABLE, CONFIG_INVALID */
export async function readResults(folder: string): Promise<Results> {
  const results = await readResultsIfThere(folder);
  if (results !== undefined) return results;
  throw new TrainerError('PATH_UNUSABLE', `expected ${RESULTS_FILE} of exmix evaluate in ${folder}, found none`);
}

/** @throws PATH_UNUSABLE, METRIC_INPUT_INVALID */
export async function readSide(folder: string, set: SetResult): Promise<ComparedSide> {
  const path = join(folder, set.predictions);
  const text = await readIfThere(path, MAX_PREDICTIONS_BYTES);
  if (text === undefined) throw new TrainerError('PATH_UNUSABLE', `expected predictions in ${path}, found none`);
  const lines = parsePredictions(text, path);
  if (lines.length === set.numExamples) return { place: folder, set, lines };
  throw new TrainerError(
    'METRIC_INPUT_INVALID',
    `${path}: expected ${set.numExamples} predictions as ${RESULTS_FILE} says, found ${lines.length}; evaluate again`,
  );
}
