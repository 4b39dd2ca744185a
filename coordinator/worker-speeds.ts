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
