/**
 * Dials the coordinator until it answers or a deadline passes. Workers and coordinator start at the same time on a cluster, and a coordinator
 * may come back after its death. Each worker dials at times of its own.
 */
import type { Clock } from '../../shared/clock.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import type { Connection, Transport } from '../../shared/transport/transport.ts';

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;
/** Limit of one attempt: an address that does not answer must not hide a coordinator that has come back, ms. */
const ATTEMPT_MS = 5_000;

export interface DialCoordinatorInit {
  readonly url: string;
  readonly token: string;
  readonly pauses: DialPauses;
  /** For all attempts together, monotonic ms. */
  readonly deadlineMs: number;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Called once, when the first attempt has failed. */
  readonly onWaiting: (reason: string) => void;
}

/** Pauses between attempts: they grow until a coordinator answers, and differ between workers so that a thousand do not dial at once. */
export class DialPauses {
  readonly #random: RandomStream;
  #longestMs = FIRST_PAUSE_MS;

  /** @param workerId seeds the pauses */
  constructor(workerId: string) {
    this.#random = new RandomStream([hashName(workerId)]);
  }

  /** The next one, ms. */
  next(): number {
    const pauseMs = this.#longestMs * (0.5 + this.#random.nextFloat() / 2);
    this.#longestMs = Math.min(2 * this.#longestMs, LONGEST_PAUSE_MS);
    return pauseMs;
  }

  /** A coordinator answered: after the next break, dialling starts with a short pause. */
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
      if (!error.retryable || isLate || signal.aborted) throw error;
      if (isFirst) onWaiting(`${error.message}; trying again for ${leftMs} ms`);
      await clock.sleep(pauseMs, signal);
    }
  }
}
