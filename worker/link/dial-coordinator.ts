/** Reaches the coordinator: on a cluster workers and coordinator start at the same time, so one that is not there yet is dialled again. */
import type { Clock } from '../../shared/clock.ts';
import { toTrainerError } from '../../shared/errors.ts';
import type { Connection, Transport } from '../../shared/transport/transport.ts';

const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 1_000;

export interface DialCoordinatorInit {
  readonly url: string;
  readonly token: string;
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
  const { url, token, timeoutMs, transport, clock, signal, onWaiting } = init;
  const deadlineMs = clock.monotonicMs() + timeoutMs;
  let pauseMs = FIRST_PAUSE_MS;
  for (;;) {
    try {
      const leftMs = Math.max(1, Math.ceil(deadlineMs - clock.monotonicMs()));
      return await transport.dial(url, { token, timeoutMs: leftMs, signal });
    } catch (thrown) {
      const error = toTrainerError(thrown);
      const isLate = clock.monotonicMs() + pauseMs >= deadlineMs;
      if (!error.retryable || isLate) throw error;
      if (pauseMs === FIRST_PAUSE_MS) onWaiting(`${error.message}; trying again for ${timeoutMs} ms`);
      await clock.sleep(pauseMs, signal);
      pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS);
    }
  }
}
