/** Dials the data port of a peer, repeatedly: the peer may receive its `form` or `probe-links` later than this worker. */
import type { Clock } from '../../shared/clock.ts';
import { toTrainerError, type TrainerError } from '../../shared/errors.ts';
import { planRoutes } from '../../shared/transport/data-address.ts';
import { readLocality } from '../../shared/transport/local-socket.ts';
import type { Connection, Transport } from '../../shared/transport/transport.ts';
import type { SocketKind } from './connect-mesh.ts';

const FIRST_RETRY_MS = 10;
const LONGEST_RETRY_MS = 250;

export interface DialPortInit {
  /** As announced by the peer (data-port.ts). */
  readonly url: string;
  readonly path: string;
  readonly transport: Transport;
  /** Of the generation or trial. */
  readonly secret: Uint8Array;
  readonly socket: SocketKind;
  /** Longest message that is received. */
  readonly maxMessageBytes: number;
  /** For one dial. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** Ends the dialling; the caller keeps the deadline. */
  readonly signal: AbortSignal;
  /** Why a dial failed; the next one follows. */
  readonly onRetry: (failure: TrainerError) => void;
}

/** @throws ABORTED when the signal fires; AUTH_FAILED, MESSAGE_INVALID (an address that is none) at once */
export async function dialPort(init: DialPortInit): Promise<Connection> {
  const { url, path, transport, secret, maxMessageBytes, timeoutMs, clock, signal } = init;
  const limits = { maxMessageBytes };
  const routes = planRoutes(url, transport.scheme, init.socket === 'auto' ? readLocality() : null);
  for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS)) {
    try {
      return await transport.dial(routes[0]! + path, { secret, timeoutMs, signal, limits });
    } catch (error) {
      const failure = toTrainerError(error);
      // A local socket where another process answers says nothing about the peer.
      const hasOtherRoute = routes.length > 1;
      if (!failure.retryable && (!hasOtherRoute || failure.code === 'ABORTED')) throw failure;
      init.onRetry(failure);
      // With a cause nobody answered; without one the peer answered and is not ready yet.
      if ((failure.cause !== undefined || !failure.retryable) && hasOtherRoute) routes.shift();
    }
    await clock.sleep(waitMs, signal);
  }
}
