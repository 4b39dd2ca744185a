/**
 * Writes the results of a validation to `<run>/validation/step-<n>/`: results.json and predictions, in the format of `exmix evaluate`
 * (evaluation/results.ts). The folder appears whole, by one rename. The files hold no time and no name of a worker: equal parameters and
 * settings give equal bytes.
 */
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { formatPrediction, formatResults, RESULTS_FILE } from '../../evaluation/results.ts';
import { syncFolder, toStorageError, writeNewFile } from '../../shared/atomic-file.ts';
import { checkpointName } from '../../shared/checkpoint/layout.ts';
import type { ScoredSet, ValidationResults } from './validation-sets.ts';

const VALIDATION_FOLDER = 'validation';

/** Where the results of validations go. */
export interface ValidationStore {
  /** Results of the step that are there already, of other settings or of a lost timeline, are replaced. @returns their place */
  write(results: ValidationResults, scored: readonly ScoredSet[]): Promise<string>;
}

/** @throws from `write`: DISK_FULL, PATH_UNUSABLE */
export function createValidationStore(runFolder: string): ValidationStore {
  return { write: (results, scored) => writeResults(runFolder, results, scored) };
}

async function writeResults(
  runFolder: string,
  results: ValidationResults,
  scored: readonly ScoredSet[],
): Promise<string> {
  const all = join(runFolder, VALIDATION_FOLDER);
  const name = checkpointName(results.step);
  const folder = join(all, name);
  const writing = join(all, `.writing-${name}`);
  try {
    await rm(writing, { recursive: true, force: true });
    await mkdir(join(writing, 'predictions'), { recursive: true });
    await writeNewFile(join(writing, RESULTS_FILE), formatResults(results));
    for (const { result, lines } of scored)
      await writeNewFile(join(writing, result.predictions), lines.map(formatPrediction).join(''));
    await syncFolder(writing);
    await rm(folder, { recursive: true, force: true });
    await rename(writing, folder);
    await syncFolder(all);
    return folder;
  } catch (error) {
    throw toStorageError(error, 'write', folder);
  }
}
