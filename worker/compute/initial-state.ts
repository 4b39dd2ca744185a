/**
 * The state that a run with `init` begins with: the parameters of a checkpoint of exmix, or of a T5 of Hugging Face, and with `keep` the
 * optimizer's state of the checkpoint.
 *
 * Definition: a folder with a manifest and a run record is a checkpoint of exmix. Its every byte is verified.
 * Assumption: the names and shapes of the parameters are those of the folder's own config. The caller compares the config with the run's.
 */
import { join } from 'node:path';
import { throwIfAborted } from '../../shared/abort.ts';
import { statIfThere } from '../../shared/atomic-file.ts';
import { MANIFEST_FILE, RUN_FILE } from '../../shared/checkpoint/layout.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { readCheckpoint, type Checkpoint } from '../../shared/checkpoint/read.ts';
import { initSchema, type InitSettings } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { ModelConfig } from '../../shared/model-config.ts';
import { optimizerSchema, type OptimizerKind } from '../../shared/optimizer.ts';
import { optimizerSlots } from '../model/optimizer-slots.ts';
import { parameterSpecs } from '../model/parameters.ts';
import { outlineModel, readModel } from '../model/read-model.ts';

/** What decides bits in the state: part of the numerics of the run. */
export type InitialDigests = Pick<InitSettings, 'paramDigest' | 'optimizerDigest' | 'optimizerStep'>;

export interface InitialState {
  readonly config: ModelConfig;
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly optimizer: ReadonlyMap<string, Float32Array> | 'zero';
  /** Whose state it is; undefined: there is none. */
  readonly optimizerKind?: OptimizerKind;
  readonly digests: InitialDigests;
  /** Of the tokenizer that the checkpoint was trained with; undefined: it does not say. */
  readonly tokenizerHash: string | undefined;
}

/**
 * @throws CHECKPOINT_CORRUPT; CONFIG_INVALID for `keep` without a checkpoint of exmix; CHECKPOINT_MISMATCH for an optimizer state of another
 *   kind; the errors of readModel; ABORTED
 */
export async function readInitialState(
  folder: string,
  optimizer: InitSettings['optimizer'],
  signal: AbortSignal,
): Promise<InitialState> {
  throwIfAborted(signal, `reading ${folder}`);
  const checkpoint = (await isCheckpoint(folder)) ? await readCheckpoint(folder, signal) : undefined;
  if (optimizer === 'keep' && checkpoint === undefined) {
    await outlineModel(folder); // a folder without any model is another error
    throw new TrainerError(
      'CONFIG_INVALID',
      `init.optimizer: keep needs a checkpoint of exmix, which has the optimizer's state; ${folder} is a model without it: use fresh`,
    );
  }
  const { config, parameters } = await readModel(folder);
  const paramDigest = parameterDigest(parameters);
  const expected = checkpoint?.run.paramDigest ?? paramDigest;
  if (paramDigest !== expected)
    throw new TrainerError(
      'CHECKPOINT_CORRUPT',
      `${folder}: expected parameters with digest ${expected}, found ${paramDigest}`,
    );
  const state = { config, parameters, tokenizerHash: checkpoint?.run.tokenizerHash };
  if (checkpoint === undefined || optimizer === 'fresh')
    return { ...state, optimizer: 'zero', digests: { paramDigest } };
  const kind = optimizerKindOf(checkpoint.run.config);
  const slots = await checkpoint.loadOptimizerSlots(optimizerSlots(parameterSpecs(config), kind), signal);
  const digests = {
    paramDigest,
    optimizerDigest: parameterDigest(slots),
    optimizerStep: updatesBehind(checkpoint),
  };
  return { ...state, optimizer: slots, optimizerKind: kind, digests };
}

/** @throws CHECKPOINT_MISMATCH where the folder has another state than the run begins with */
export function checkDigests(folder: string, { digests }: InitialState, expected: InitialDigests): void {
  for (const key of ['paramDigest', 'optimizerDigest', 'optimizerStep'] as const)
    if (expected[key] !== undefined && digests[key] !== expected[key])
      throw new TrainerError(
        'CHECKPOINT_MISMATCH',
        `init: expected ${key} ${expected[key]} in ${folder}, found ${digests[key] ?? 'none'}: the folder has changed since the run began; ` +
          'restore it, or begin a new run',
      );
}

async function isCheckpoint(folder: string): Promise<boolean> {
  const found = await Promise.all([MANIFEST_FILE, RUN_FILE].map((file) => statIfThere(join(folder, file))));
  return found.every((facts) => facts !== undefined);
}

/** A run that began with a kept optimizer state goes on counting from there. */
function updatesBehind({ run }: Checkpoint): number {
  const init = initSchema.safeParse(run.config['init']);
  return run.step + (init.data?.optimizerStep ?? 0);
}

/** Checkpoints from before there was a choice have Adafactor's state. */
function optimizerKindOf(config: Checkpoint['run']['config']): OptimizerKind {
  return optimizerSchema.parse(config['optimizer']).kind;
}
