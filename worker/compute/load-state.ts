/**
 * The state a worker starts from: initialised from the seed or by `init`, or read from a checkpoint. Every worker verifies what it reads itself.
 */
import { readCheckpoint } from '../../shared/checkpoint/read.ts';
import type { InitSettings } from '../../shared/config/schema.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { initialiseParameters } from '../model/initialise.ts';
import { checkDigests, readInitialState } from './initial-state.ts';

export interface StartingState {
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly optimizer: ReadonlyMap<string, Float32Array> | 'zero';
}

export interface LoadStateInit {
  readonly engine: Pick<Engine, 'parameters' | 'optimizerSlots'>;
  readonly seed: number;
  /** What the run begins with instead of the seed, resolved. */
  readonly init?: InitSettings | undefined;
  /** Folder of a checkpoint; null: the beginning of the run. */
  readonly checkpoint: string | null;
  /** Updates applied in the state. */
  readonly step: number;
  readonly signal: AbortSignal;
}

/** @throws CHECKPOINT_CORRUPT, CHECKPOINT_MISMATCH (also where it is of another step), PATH_UNUSABLE, ABORTED; as readInitialState */
export async function loadState(request: LoadStateInit): Promise<StartingState> {
  const { engine, seed, init, checkpoint, step, signal } = request;
  if (checkpoint === null) {
    if (init === undefined) return { parameters: initialiseParameters(engine.parameters, seed), optimizer: 'zero' };
    assertInvariant(init.folder !== undefined, 'init is resolved before a worker starts');
    const state = await readInitialState(init.folder, init.optimizer, signal);
    checkDigests(init.folder, state, init);
    return state;
  }
  const saved = await readCheckpoint(checkpoint, signal);
  if (saved.run.step !== step)
    throw new TrainerError(
      'CHECKPOINT_MISMATCH',
      `${checkpoint}: the run continues from step ${step}, the checkpoint is of step ${saved.run.step}`,
    );
  const parameters = await saved.loadParameters(engine.parameters, signal);
  const optimizer = await saved.loadOptimizerSlots(engine.optimizerSlots, signal);
  return { parameters, optimizer };
}
