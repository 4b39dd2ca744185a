/** What is known of the worker processes of this host, from who has started them. */
import type { WorkerHandle } from './worker-handle.ts';

export class LocalProcesses {
  /** Of each worker the process that ended last, by its pid. */
  readonly #endedPids = new Map<string, number>();
  #failure: string | undefined;

  /** A worker was given up: where too few are left, nobody else would know that no more will come. */
  givenUp(reason: string): void {
    this.#failure ??= reason;
  }

  /** Why the first one was given up; undefined where none was. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** A process has ended: nobody waits for what it held. */
  ended(workerId: string, pid: number): void {
    this.#endedPids.set(workerId, pid);
  }

  hasEnded({ workerId, pid }: Pick<WorkerHandle, 'workerId' | 'pid'>): boolean {
    return this.#endedPids.get(workerId) === pid;
  }
}
