/** The state a worker starts from: made from the seed, or read from a checkpoint, which every worker verifies for itself. */
import { readCheckpoint } from '../../shared/checkpoint/read.ts';
import type { Engine } from '../engine/engine.ts';
import { initialiseParameters } from '../model/initialise.ts';

export interface StartingState {
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly optimizer: ReadonlyMap<string, Float32Array> | 'zero';
}

/**
 * @param checkpoint folder of a checkpoint; null: initialise from the seed
 * @throws CHECKPOINT_CORRUPT, CHECKPOINT_MISMATCH, PATH_UNUSABLE, ABORTED
 */
export async function loadState(
  engine: Engine,
  seed: number,
  checkpoint: string | null,
  signal: AbortSignal,
): Promise<StartingState> {
  if (checkpoint === null) return { parameters: initialiseParameters(engine.parameters, seed), optimizer: 'zero' };
  const saved = await readCheckpoint(checkpoint, signal);
  const parameters = await saved.loadParameters(engine.parameters, signal);
  const optimizer = await saved.loadOptimizerSlots(engine.optimizerSlots, signal);
  return { parameters, optimizer };
}
