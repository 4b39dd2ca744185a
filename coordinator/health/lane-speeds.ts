/**
 * When lanes are worth dealing anew, by the measured speeds of the ranks: a pure rule with a count. Bits do not depend on who computes a
 * lane (shared/lane-tree.ts), so what is won is time, and what is lost the time of one change of generations.
 *
 * Rule: dealing by speed would make the slowest rank's time at least 10 % shorter, and would have in each of the last 20 steps.
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
   * One more step.
   * @param speeds lanes per second of each rank; undefined where they are not known yet
   * @returns why the lanes are to be dealt anew; undefined while they are not
   */
  look(speeds: readonly number[] | undefined): string | undefined {
    const gain = speeds === undefined ? 0 : this.#gain(speeds);
    this.#numSteps = gain > LEAST_GAIN ? this.#numSteps + 1 : 0;
    if (this.#numSteps < STEADY_STEPS) return undefined;
    return `lanes dealt by speed would make a step ${Math.round(100 * gain)} % shorter, for ${STEADY_STEPS} steps now`;
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

// FOLDED lane-speeds.ts
/** How fast workers were when they trained last: what lanes are dealt by in the next generation. Bounded by the workers of an epoch. */
export class WorkerSpeeds {
  readonly #lanesPerSecond = new Map<string, number>();

  /** @param workerIds in rank order @param speeds lanes per second of each rank; undefined: not known */
  learn(workerIds: readonly string[], speeds: readonly number[] | undefined): void {
    for (const [rank, workerId] of workerIds.entries())
      if (speeds !== undefined) this.#lanesPerSecond.set(workerId, speeds[rank]!);
  }

  /** In that order; undefined where one of them is not known. */
  of(workerIds: readonly string[]): number[] | undefined {
    const speeds = workerIds.map((workerId) => this.#lanesPerSecond.get(workerId));
    return speeds.every((speed) => speed !== undefined) ? speeds : undefined;
  }
}
