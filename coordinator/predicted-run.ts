/** What a generation's workers expect together: the slowest rank's step, the largest process. Pure. */
import type { RunConfig } from '../shared/config/schema.ts';
import type { ReadyMessage } from './form-generation.ts';
import type { PredictedRun } from './run-summary.ts';
import type { Generation } from './training.ts';

/** @returns undefined where a member did not say what it expects */
export function predictRunOf(
  { members, runs }: Pick<Generation, 'members' | 'runs'>,
  ready: ReadonlyMap<Generation['members'][number], Pick<ReadyMessage, 'predicted'>>,
  { training }: Pick<RunConfig, 'training'>,
): PredictedRun | undefined {
  const microbatchesPerLane = training.rowsPerStep / training.numLanes / training.microbatchRows;
  let [stepMs, workerBytes] = [0, 0];
  for (const [rank, member] of members.entries()) {
    const predicted = ready.get(member)?.predicted;
    if (predicted === undefined) return undefined;
    const { first, end } = runs[rank]!;
    const computeMs = (end - first) * microbatchesPerLane * predicted.microbatchMs;
    stepMs = Math.max(stepMs, computeMs + predicted.updateMs);
    workerBytes = Math.max(workerBytes, predicted.workerBytes);
  }
  return { stepMs, workerBytes };
}
