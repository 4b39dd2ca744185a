/** What a generation's workers expect together: the slowest rank's step, the largest process. Pure. */
import type { RunConfig } from '../shared/config/schema.ts';
import type { LaneRun } from '../shared/lane-tree.ts';
import type { ReadyMessage } from './form-generation.ts';
import type { PredictedRun } from './run-summary.ts';

/**
 * @param members in rank order, runs beside them
 * @returns undefined where a member did not say what it expects
 */
export function predictRunOf<Member>(
  { members, runs }: { readonly members: readonly Member[]; readonly runs: readonly LaneRun[] },
  ready: ReadonlyMap<Member, Pick<ReadyMessage, 'predicted'>>,
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
