/**
 * Speeds of workers, and the rule that decides when to assign lanes by them. Pure, except for counts. Bits do not depend on the rank that
 * computes a lane (shared/lane-tree.ts): the gain is time, the cost is one change of generations.
 *
 * Rule: in each of the last 20 steps, assigning lanes by speed would have made the slowest rank at least 10 % faster.
 */
import { assignLanes } from '../../shared/assign-lanes.ts';
import type { LaneRun } from '../../shared/lane-tree.ts';

const LEAST_GAIN = 0.1;
const STEADY_STEPS = 20;

export class Rebalance {
  readonly #numLanes: number;
  readonly #runs: readonly LaneRun[];
  #numSteps = 0;

  /** @param runs of the generation, in rank order */
  constructor(numLanes: number, runs: readonly LaneRun[]) {
    this.#numLanes = numLanes;
    this.#runs = runs;
  }

  /**
   * Observes one more step.
   * @param speeds lanes per second of each rank; undefined where they are not known yet
   * @returns why lanes are to be assigned anew; undefined while they are not
   */
  observe(speeds: readonly number[] | undefined): string | undefined {
    const gain = speeds === undefined ? 0 : this.#gain(speeds);
    this.#numSteps = gain > LEAST_GAIN ? this.#numSteps + 1 : 0;
    if (this.#numSteps < STEADY_STEPS) return undefined;
    return `lanes assigned by speed would make a step ${Math.round(100 * gain)} % shorter, for ${STEADY_STEPS} steps now`;
  }

  #gain(speeds: readonly number[]): number {
    const nowSeconds = longestSeconds(this.#runs, speeds);
    const idealSeconds = this.#numLanes / speeds.reduce((a, b) => a + b, 0);
    if (idealSeconds >= (1 - LEAST_GAIN) * nowSeconds) return 0; // no split can be that much better
    return 1 - longestSeconds(assignLanes(this.#numLanes, speeds.length, speeds).runs, speeds) / nowSeconds;
  }
}

function longestSeconds(runs: readonly LaneRun[], speeds: readonly number[]): number {
  return Math.max(...runs.map(({ first, end }, rank) => (end - first) / speeds[rank]!));
}

/** Speeds of workers when they trained last, for the lanes of the next generation. Bound: the workers of an epoch. */
export class WorkerSpeeds {
  readonly #lanesPerSecond = new Map<string, number>();

  /** @param workerIds in rank order @param speeds lanes per second of each rank; undefined: not known yet */
  learn(workerIds: readonly string[], speeds: readonly number[] | undefined): void {
    for (const [rank, workerId] of workerIds.entries())
      if (speeds !== undefined) this.#lanesPerSecond.set(workerId, speeds[rank]!);
  }

  /** Speeds in the order of the ids; undefined where one is not known. */
  of(workerIds: readonly string[]): number[] | undefined {
    const speeds = workerIds.map((workerId) => this.#lanesPerSecond.get(workerId));
    return speeds.every((speed) => speed !== undefined) ? speeds : undefined;
  }
}
