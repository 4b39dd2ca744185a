/**
 * Writes the results of a validation to `<run>/validation/step-<n>/`: `results.json` and, where outputs were decoded, `predictions/<set>.jsonl`.
 * The folder appears whole, by one rename. The files hold no time and no name of a worker: equal parameters and settings give equal bytes.
 */
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { syncFolder, toStorageError, writeNewFile } from '../../shared/atomic-file.ts';
import { checkpointName } from '../../shared/checkpoint/layout.ts';
import type { CheckpointRef } from '../checkpoint/saver.ts';
import type { ScoredSet, ValidationSets } from './validation-sets.ts';

const VALIDATION_FOLDER = 'validation';

/** Where the results of validations go. */
export interface ValidationStore {
  /** Results of the step that are there already, of other settings or of a lost timeline, are replaced. @returns their place */
  write(results: ValidationResults): Promise<string>;
}

export interface ValidationResults {
  readonly checkpoint: Pick<CheckpointRef, 'step' | 'paramDigest'>;
  readonly sets: Pick<ValidationSets, 'split' | 'settings' | 'decoding'>;
  readonly scored: readonly ScoredSet[];
}

/** @throws from `write`: DISK_FULL, PATH_UNUSABLE */
export function createValidationStore(runFolder: string): ValidationStore {
  return { write: (results) => writeResults(runFolder, results) };
}

async function writeResults(runFolder: string, { checkpoint, sets, scored }: ValidationResults): Promise<string> {
  const all = join(runFolder, VALIDATION_FOLDER);
  const folder = join(all, checkpointName(checkpoint.step));
  const writing = join(all, `.writing-${checkpointName(checkpoint.step)}`);
  try {
    await rm(writing, { recursive: true, force: true });
    await mkdir(join(writing, 'predictions'), { recursive: true });
    const { split, settings, decoding } = sets;
    const { step, paramDigest } = checkpoint;
    const results = { step, paramDigest, split, settings, decoding, sets: scored.map(describeSet) };
    await writeNewFile(join(writing, 'results.json'), `${JSON.stringify(results, undefined, 2)}\n`);
    for (const { name, lines } of scored.filter(({ scores }) => scores.outputs !== undefined)) {
      const text = lines.map((line) => `${JSON.stringify(line)}\n`).join('');
      await writeNewFile(join(writing, 'predictions', `${name}.jsonl`), text);
    }
    await syncFolder(writing);
    await rm(folder, { recursive: true, force: true });
    await rename(writing, folder);
    await syncFolder(all);
    return folder;
  } catch (error) {
    throw toStorageError(error, 'write', folder);
  }
}

/** A figure that is not defined is null. */
function describeSet({ name, info, scores }: ScoredSet): object {
  const { numExamples, numCut, numTargetTokens, teacherForcing, outputs } = scores;
  return {
    name,
    task: info.task,
    set: info.name,
    hash: info.hash,
    ofExamples: info.numExamples,
    numExamples,
    numCut,
    numTargetTokens,
    teacherForcing: teacherForcing.figures,
    ...(outputs === undefined
      ? {}
      : {
          numInvalid: outputs.numInvalid,
          numUnended: outputs.numUnended,
          metrics: Object.fromEntries([...outputs.metrics].map(([metric, { figures }]) => [metric, figures])),
        }),
  };
}
