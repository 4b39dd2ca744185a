/** The model that is to be evaluated: where it is, what its parameters are, and the run it belongs to. */
import { basename, dirname, join, resolve } from 'node:path';
import { runPaths } from '../../coordinator/run-folder/run-folder.ts';
import { expectTokenizer } from '../../mixture/tokenizer/find-tokenizer.ts';
import { loadTokenizer, type Tokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { statIfThere } from '../../shared/atomic-file.ts';
import { MANIFEST_FILE, RUN_FILE } from '../../shared/checkpoint/layout.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { readCheckpoint } from '../../shared/checkpoint/read.ts';
import { checkConfig } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { standardError } from '../../shared/standard-streams.ts';
import { readModel } from '../../worker/model/read-model.ts';
import { findModelFolder } from '../model-folder.ts';

/** In a run folder: a folder of results for each evaluated checkpoint. */
export const EVALUATION_FOLDER = 'evaluation';

export interface EvaluatedModel {
  /** Absolute. */
  readonly folder: string;
  readonly paramDigest: string;
  readonly vocabSize: number;
  /** Null: no checkpoint of exmix. */
  readonly step: number | null;
  /** The config that a checkpoint was trained with, and the file that it stands in. */
  readonly trained?: { readonly config: RunConfig; readonly file: string };
}

export interface FoundModel {
  readonly model: EvaluatedModel;
  /** Where results go by default; a test split has a folder of its own. */
  readonly resultsFolder: string;
}

/** @param path a run, a checkpoint, or a T5 of Transformers @throws PATH_UNUSABLE, CHECKPOINT_CORRUPT, and what readModel throws */
export async function findEvaluatedModel(path: string, signal: AbortSignal): Promise<FoundModel> {
  const folder = resolve(await findModelFolder(path, (note) => standardError.write(`${note}\n`), signal));
  if ((await statIfThere(join(folder, MANIFEST_FILE))) === undefined) {
    const { config, parameters } = await readModel(folder);
    const facts = { folder, step: null, vocabSize: config.vocabSize, paramDigest: parameterDigest(parameters) };
    return { model: facts, resultsFolder: join(dirname(folder), `${basename(folder)}-evaluation`) };
  }
  const { checkpoints, folder: root } = runPaths(dirname(dirname(folder)));
  // A checkpoint that was copied out of its run has its results beside it.
  const place = checkpoints === dirname(folder) ? root : dirname(folder);
  return {
    model: await readEvaluatedCheckpoint(folder, signal),
    resultsFolder: join(place, EVALUATION_FOLDER, basename(folder)),
  };
}

/** @param folder absolute @throws PATH_UNUSABLE, CHECKPOINT_CORRUPT, CONFIG_INVALID, ABORTED */
export async function readEvaluatedCheckpoint(folder: string, signal: AbortSignal): Promise<EvaluatedModel> {
  const { run } = await readCheckpoint(folder, signal);
  const file = join(folder, RUN_FILE);
  const config = checkConfig(run.config, file);
  const { step, paramDigest } = run;
  return { folder, step, paramDigest, vocabSize: config.model.vocabSize, trained: { config, file } };
}

/**
 * The tokenizer that a model is used with.
 * @param file spiece.model or tokenizer.json; left out: that of the model's folder
 * @throws CONFIG_INVALID for one with more tokens than the model; what loadTokenizer throws
 */
export async function openTokenizer(
  { folder, vocabSize }: Pick<EvaluatedModel, 'folder' | 'vocabSize'>,
  file: string | undefined,
): Promise<{ readonly tokenizer: Tokenizer; readonly file: string }> {
  const path = file ?? (await expectTokenizer(folder));
  const tokenizer = await loadTokenizer(path);
  if (tokenizer.vocabSize <= vocabSize) return { tokenizer, file: path };
  throw new TrainerError(
    'CONFIG_INVALID',
    `${folder}: the model has ${vocabSize} tokens, the tokenizer ${tokenizer.vocabSize}: it is another model's tokenizer`,
  );
}
