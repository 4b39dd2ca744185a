/**
 * Resolves `init` before a run: reads the folder, checks it against config and tokenizer, and fills in what the run is to begin with. All
 * that can be wrong with the folder is known before a mixture is prepared or a worker starts.
 *
 * A run that has begun keeps its beginning: a run folder is `from` its newest checkpoint of that time. With a checkpoint of its own the run
 * does not read the folder any more.
 */
import { resolve } from 'node:path';
import { resolveResume, runPaths, isRunFolder } from '../../coordinator/run-folder/run-folder.ts';
import { listCheckpointFolders, readRunRecord } from '../../shared/checkpoint/read.ts';
import { loadTree } from '../../shared/config/load-config.ts';
import { initSchema, type InitSettings, type RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { listNames } from '../../shared/list-names.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { findTokenizer } from '../../mixture/tokenizer/find-tokenizer.ts';
import { loadTokenizer, type Tokenizer } from '../../mixture/tokenizer/tokenizer.ts';
import { checkDigests, readInitialState, type InitialState } from '../../worker/compute/initial-state.ts';
import { checkVocabulary } from '../ensure-prepared.ts';
import { findModelFolder } from '../model-folder.ts';
import { loadRunMixture } from '../run-mixture.ts';

export interface ResolveInitRequest {
  readonly config: RunConfig;
  /** The stored config that names the mixture, where the user named none (`storedConfigOf`). */
  readonly mixtureNamedBy: string | undefined;
  readonly place: { readonly runDir?: string | undefined; readonly resume?: string | undefined };
  /** Receives what the run begins with, and what could not be checked. */
  readonly onLine: (text: string) => void;
  readonly signal: AbortSignal;
}

/**
 * @returns the config with `init` filled in; as it is where it has none
 * @throws CONFIG_INVALID for another model or a vocabulary that is too small; MIXTURE_MISMATCH for another tokenizer; CHECKPOINT_MISMATCH for
 *   another digest than the config or the begun run has; the errors of readInitialState and loadRunMixture
 */
export async function resolveInit(request: ResolveInitRequest): Promise<RunConfig> {
  const { config, place, onLine, signal } = request;
  const { init } = config;
  if (init === undefined) return config;
  const run = await findBegunRun(place);
  const begun = run?.init?.from === init.from && run.init.optimizer === init.optimizer ? run.init : undefined;
  if (run?.hasCheckpoint === true && begun?.folder !== undefined) return { ...config, init: begun };
  const folder = begun?.folder ?? resolve(await findModelFolder(init.from, onLine, signal));
  const state = await readInitialState(folder, init.optimizer, signal);
  checkModel(folder, state.config, config.model);
  const { kind } = config.optimizer;
  if (state.optimizerKind !== undefined && state.optimizerKind !== kind)
    throw new TrainerError(
      'CONFIG_INVALID',
      `init.optimizer: ${folder} has the state of ${state.optimizerKind}, the run has optimizer.kind ${kind}; use fresh`,
    );
  checkDigests(folder, state, { ...init, ...begun });
  await checkTokenizer(folder, state, request);
  const { paramDigest, optimizerStep } = state.digests;
  const optimizer = optimizerStep === undefined ? 'fresh optimizer' : `optimizer kept after ${optimizerStep} updates`;
  onLine(`begins with ${folder}: parameters ${paramDigest!.slice(0, 12)}, ${optimizer}`);
  return { ...config, init: { from: init.from, optimizer: init.optimizer, folder, ...state.digests } };
}

interface BegunRun {
  readonly init: InitSettings | undefined;
  readonly hasCheckpoint: boolean;
}

/** The run that is continued; undefined for a new one. @throws PATH_UNUSABLE, CHECKPOINT_CORRUPT */
async function findBegunRun({ resume, runDir }: ResolveInitRequest['place']): Promise<BegunRun | undefined> {
  const path = resume ?? (runDir !== undefined && (await isRunFolder(runDir)) ? runDir : undefined);
  if (path === undefined) return undefined;
  const target = await resolveResume(path);
  if (target.kind === 'checkpoint') {
    const { config } = await readRunRecord(target.checkpointFolder);
    return { init: initSchema.safeParse(config['init']).data, hasCheckpoint: true };
  }
  const { config, checkpoints } = runPaths(target.runFolder);
  const { init } = await loadTree(config, []);
  const saved = await listCheckpointFolders(checkpoints).catch(() => []); // a run that was killed early has no such folder
  return { init: initSchema.safeParse(init).data, hasCheckpoint: saved.length > 0 };
}

/** @throws CONFIG_INVALID with each field that differs */
function checkModel(folder: string, found: ModelConfig, expected: ModelConfig): void {
  const fields = Object.keys(found) as (keyof ModelConfig)[];
  const differences = fields.filter((field) => found[field] !== expected[field]);
  if (differences.length === 0) return;
  const list = differences.map((field) => `model.${field}: expected ${expected[field]}, found ${found[field]}`);
  throw new TrainerError(
    'CONFIG_INVALID',
    `init: ${folder} is another model than that of the config: ${listNames(list, { most: 12, separator: '; ' })}; ` +
      "leave `model` out of the config, or add --set 'model=from init'",
  );
}

/** @throws MIXTURE_MISMATCH; CONFIG_INVALID for a vocabulary that is too small; TOKENIZER_INVALID, PATH_UNUSABLE */
async function checkTokenizer(
  folder: string,
  { tokenizerHash }: InitialState,
  { config, mixtureNamedBy, onLine }: ResolveInitRequest,
): Promise<void> {
  const { mixture } = loadRunMixture(config, mixtureNamedBy);
  const tokenizer = await loadTokenizer(mixture.tokenizerPath);
  checkVocabulary(config, mixture.name, tokenizer.vocabSize);
  if (tokenizerHash === tokenizer.hash) return;
  const path = await findTokenizer(folder);
  if (path === undefined && tokenizerHash === undefined) {
    onLine(
      `${folder} has no tokenizer: nobody can tell whether its ids mean what those of ${mixture.tokenizerPath} mean`,
    );
    return;
  }
  const difference = path === undefined ? 'another hash' : compareIds(await loadTokenizer(path), tokenizer);
  if (difference === undefined) return;
  throw new TrainerError(
    'MIXTURE_MISMATCH',
    `init: ${path ?? folder} has another tokenizer than the mixture, ${mixture.tokenizerPath}: ${difference}; the ids would mean other words: ` +
      (path === undefined ? 'use that of the checkpoint' : `add --set mixture.tokenizer=${path}`),
  );
}

/** What an id means in one tokenizer and not in the other; undefined where all ids mean the same. Pure. */
function compareIds(found: Tokenizer, expected: Tokenizer): string | undefined {
  if (found.hash === expected.hash) return undefined;
  if (found.vocabSize !== expected.vocabSize) return `expected ${expected.vocabSize} ids, found ${found.vocabSize}`;
  for (let id = 0; id < expected.vocabSize; id++)
    if (found.pieceOf(id) !== expected.pieceOf(id))
      return `id ${id}: expected ${JSON.stringify(expected.pieceOf(id))}, found ${JSON.stringify(found.pieceOf(id))}`;
  return undefined;
}
