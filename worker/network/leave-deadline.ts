/**
 * The end of a worker whose compute thread hangs. When the line to the coordinator is over for good, the compute thread has to leave; one
 * that hangs never hears of it, and its process would hold a device, memory and a data port for ever. So whoever sees the line end waits
 * a while for it, and then ends the process.
 *
 * Assumption: a compute thread that works comes by more often than this, between two microbatches.
 */
import type { Clock } from '../../shared/clock.ts';
import type { ErrorRecord } from '../../shared/errors.ts';

const LEAVE_DEADLINE_MS = 20_000;

export interface LeaveDeadlineInit {
  readonly clock: Clock;
  /** Ends the process. @param reason for its log */
  readonly end: (reason: string) => void;
}

export class LeaveDeadline {
  readonly #init: LeaveDeadlineInit;
  readonly #left = new AbortController();

  constructor(init: LeaveDeadlineInit) {
    this.#init = init;
  }

  /** The line is over: the compute thread is to leave from now on. */
  async lost({ code, message }: ErrorRecord): Promise<void> {
    const { clock, end } = this.#init;
    try {
      await clock.sleep(LEAVE_DEADLINE_MS, this.#left.signal);
    } catch {
      return; // it leaves
    }
    end(`the compute thread has not come back for ${LEAVE_DEADLINE_MS} ms after ${code}: ${message}`);
  }

  /** It leaves. */
  left(): void {
    this.#left.abort();
  }
}
