/** What a generation's workers expect together: the slowest rank's step, the largest process. Pure. */
import type { RunConfig } from '../shared/config/schema.ts';
import type { LaneRun } from '../shared/lane-tree.ts';
import type { ReadyWorker } from './roster.ts';
import type { PredictedRun } from './run-summary.ts';

/**
 * @param members in rank order @param runs their lanes
 * @returns undefined where a member did not say what it expects
 */
export function predictRunOf(
  members: readonly { readonly facts: Pick<ReadyWorker['facts'], 'predicted'> }[],
  runs: readonly LaneRun[],
  { training }: Pick<RunConfig, 'training'>,
): PredictedRun | undefined {
  const microbatchesPerLane = training.rowsPerStep / training.numLanes / training.microbatchRows;
  let [stepMs, workerBytes] = [0, 0];
  for (const [rank, { facts }] of members.entries()) {
    const { predicted } = facts;
    if (predicted === undefined) return undefined;
    const { first, end } = runs[rank]!;
    const computeMs = (end - first) * microbatchesPerLane * predicted.microbatchMs;
    stepMs = Math.max(stepMs, computeMs + predicted.updateMs);
    workerBytes = Math.max(workerBytes, predicted.workerBytes);
  }
  return { stepMs, workerBytes };
}
