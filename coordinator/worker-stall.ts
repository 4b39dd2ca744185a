/**
 * A worker that waits for its data: what its heartbeats say of a source that does not answer, when to tell it, and how much of an open
 * step it excuses. Pure but for what was told and counted.
 *
 * Assumption: a worker that waits for its source goes on or fails by `feed.sourceTimeoutMs`; nobody is excused for longer.
 */
import type { Logger } from '../shared/logger.ts';
import type { WorkerStall } from '../shared/protocol/messages.ts';

/** Told again so often while it lasts, ms. */
const REPEAT_MS = 10_000;

/** Logs that a worker waits for its source, on change and every REPEAT_MS, and that it goes on. */
export class StallLog {
  readonly #log: Logger;
  readonly #workerId: string;
  #told: WorkerStall | undefined;

  constructor(log: Logger, workerId: string) {
    this.#log = log;
    this.#workerId = workerId;
  }

  /** @param stall of the last heartbeat */
  heard(stall: WorkerStall | undefined): void {
    const workerId = this.#workerId;
    const told = this.#told;
    if (stall === undefined) {
      if (told !== undefined) this.#log.info({ workerId, forMs: told.forMs }, 'worker has its source again');
      this.#told = undefined;
      return;
    }
    if (told?.reason === stall.reason && stall.forMs - told.forMs < REPEAT_MS) return;
    this.#told = stall;
    this.#log.warn({ workerId, reason: stall.reason, forMs: stall.forMs }, 'worker waits for its source');
  }
}

interface MaybeStalled {
  readonly stall: WorkerStall | undefined;
}

/** Time for which the oldest open step has waited for a source. */
export class StalledTime {
  #step = -1;
  #lastMs = 0;
  #stalledMs = 0;

  /**
   * Call it often: the time since the last call counts where one of those that are waited for has no source now.
   * @param members in rank order @param missing ranks that are waited for
   * @returns of this step so far, ms
   */
  look(nowMs: number, step: number, members: readonly MaybeStalled[], missing: readonly number[]): number {
    if (step !== this.#step) {
      this.#step = step;
      this.#stalledMs = 0;
    } else if (missing.some((rank) => members[rank]!.stall !== undefined)) this.#stalledMs += nowMs - this.#lastMs;
    this.#lastMs = nowMs;
    return this.#stalledMs;
  }
}
