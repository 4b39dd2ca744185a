/** Workers in the answer to `GET /status`. */
import type { WorkerHandle } from './worker-handle.ts';

/** @param members of the generation, in rank order */
export function describeWorkers(workers: readonly WorkerHandle[], members: readonly WorkerHandle[]): object[] {
  const ranks = new Map(members.map((worker, rank) => [worker, rank]));
  return workers.map((worker) => {
    const { workerId, host, pid, phase, step, stall } = worker;
    return { workerId, host, pid, phase, step, rank: ranks.get(worker) ?? null, stall };
  });
}
