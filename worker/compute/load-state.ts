/** The state a worker starts from: initialised from the seed, or read from a checkpoint that every worker verifies itself. */
import { readCheckpoint } from '../../shared/checkpoint/read.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Engine } from '../engine/engine.ts';
import { initialiseParameters } from '../model/initialise.ts';

export interface StartingState {
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly optimizer: ReadonlyMap<string, Float32Array> | 'zero';
}

export interface LoadStateInit {
  readonly engine: Pick<Engine, 'parameters' | 'optimizerSlots'>;
  readonly seed: number;
  /** Folder of a checkpoint; null: from the seed. */
  readonly checkpoint: string | null;
  /** Updates applied in the state. */
  readonly step: number;
  readonly signal: AbortSignal;
}

/** @throws CHECKPOINT_CORRUPT, CHECKPOINT_MISMATCH (also where it is of another step), PATH_UNUSABLE, ABORTED */
export async function loadState({ engine, seed, checkpoint, step, signal }: LoadStateInit): Promise<StartingState> {
  if (checkpoint === null) return { parameters: initialiseParameters(engine.parameters, seed), optimizer: 'zero' };
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
