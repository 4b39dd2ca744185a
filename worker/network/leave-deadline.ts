/**
 * Ends a worker whose compute thread hangs. Once the connection to the coordinator is over for good, the compute thread must leave. A hung one
 * never learns of it, and its process would keep a device, memory and a data port. So the network thread waits, then ends the process.
 *
 * Assumption: a working compute thread handles events more often than this, between two microbatches.
 */
import type { Clock } from '../../shared/clock.ts';
import type { ErrorRecord } from '../../shared/errors.ts';

const LEAVE_DEADLINE_MS = 20_000;

export interface LeaveDeadlineInit {
  readonly clock: Clock;
  /** Ends the process. @param reason for its log */
  readonly end: (reason: string) => void | Promise<void>;
}

export class LeaveDeadline {
  readonly #init: LeaveDeadlineInit;
  readonly #left = new AbortController();

  constructor(init: LeaveDeadlineInit) {
    this.#init = init;
  }

  /** The connection is over for good: the compute thread must leave from now on. */
  async lost({ code, message }: ErrorRecord): Promise<void> {
    const { clock, end } = this.#init;
    try {
      await clock.sleep(LEAVE_DEADLINE_MS, this.#left.signal);
    } catch {
      return; // it has left
    }
    await end(`the compute thread has not answered for ${LEAVE_DEADLINE_MS} ms after ${code}: ${message}`);
  }

  /** The compute thread leaves. */
  left(): void {
    this.#left.abort();
  }
}
