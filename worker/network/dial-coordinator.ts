/**
 * Reaches the coordinator: on a cluster workers and coordinator start at the same time, and a coordinator may come back after it died,
 * so one that is not there is dialled again, each worker at moments of its own.
 */
import type { Clock } from '../../shared/clock.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import type { Connection, Transport } from '../../shared/transport/transport.ts';

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** One attempt: an address that answers nothing must not hide that a coordinator has come back. */
const ATTEMPT_MS = 5_000;

export interface DialCoordinatorInit {
  readonly url: string;
  readonly token: string;
  readonly pauses: DialPauses;
  /** For all attempts together, on the clock. */
  readonly deadlineMs: number;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Called once, when the first attempt has failed. */
  readonly onWaiting: (reason: string) => void;
}

/** Pauses between attempts: they grow until a coordinator has been found, and a thousand workers do not dial at once. */
export class DialPauses {
  readonly #random: RandomStream;
  #longestMs = FIRST_PAUSE_MS;

  /** @param workerId gives the pauses their spread */
  constructor(workerId: string) {
    this.#random = new RandomStream([hashName(workerId)]);
  }

  /** The next one, ms. */
  next(): number {
    const pauseMs = this.#longestMs * (0.5 + this.#random.nextFloat() / 2);
    this.#longestMs = Math.min(2 * this.#longestMs, LONGEST_PAUSE_MS);
    return pauseMs;
  }

  /** A coordinator was found: the next one that is gone is dialled soon. */
  reset(): void {
    this.#longestMs = FIRST_PAUSE_MS;
  }
}

/** @throws CONNECT_FAILED after the deadline; AUTH_FAILED, CONFIG_INVALID, ABORTED at once */
export async function dialCoordinator(init: DialCoordinatorInit): Promise<Connection> {
  const { url, token, pauses, deadlineMs, transport, clock, signal, onWaiting } = init;
  for (let isFirst = true; ; isFirst = false) {
    const leftMs = Math.max(1, Math.ceil(deadlineMs - clock.monotonicMs()));
    try {
      return await transport.dial(url, { token, timeoutMs: Math.min(leftMs, ATTEMPT_MS), signal });
    } catch (thrown) {
      const error = toTrainerError(thrown);
      const pauseMs = pauses.next();
      const isLate = clock.monotonicMs() + pauseMs >= deadlineMs;
      if (!error.retryable || isLate) throw error;
      if (isFirst) onWaiting(`${error.message}; trying again for ${leftMs} ms`);
      await clock.sleep(pauseMs, signal);
    }
  }
}
