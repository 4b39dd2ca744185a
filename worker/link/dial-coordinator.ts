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
  /** Gives the pauses their spread: a thousand workers do not dial at once. */
  readonly workerId: string;
  /** For all attempts together. */
  readonly timeoutMs: number;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Called once, when the first attempt has failed. */
  readonly onWaiting: (reason: string) => void;
}

/** @throws CONNECT_FAILED after the deadline; AUTH_FAILED, CONFIG_INVALID, ABORTED at once */
export async function dialCoordinator(init: DialCoordinatorInit): Promise<Connection> {
  const { url, token, workerId, timeoutMs, transport, clock, signal, onWaiting } = init;
  const deadlineMs = clock.monotonicMs() + timeoutMs;
  const random = new RandomStream([hashName(workerId)]);
  for (let longestMs = FIRST_PAUSE_MS; ; longestMs = Math.min(2 * longestMs, LONGEST_PAUSE_MS)) {
    try {
      const leftMs = Math.max(1, Math.ceil(deadlineMs - clock.monotonicMs()));
      return await transport.dial(url, { token, timeoutMs: Math.min(leftMs, ATTEMPT_MS), signal });
    } catch (thrown) {
      const error = toTrainerError(thrown);
      const pauseMs = longestMs * (0.5 + random.nextFloat() / 2);
      const isLate = clock.monotonicMs() + pauseMs >= deadlineMs;
      if (!error.retryable || isLate) throw error;
      if (longestMs === FIRST_PAUSE_MS) onWaiting(`${error.message}; trying again for ${timeoutMs} ms`);
      await clock.sleep(pauseMs, signal);
    }
  }
}
