/** Dials the data port of a rank that holds the state, repeatedly: the holder may receive `form` later than this rank. */
import type { Clock } from '../../shared/clock.ts';
import { toTrainerError, type TrainerError } from '../../shared/errors.ts';
import { planRoutes } from '../../shared/transport/data-address.ts';
import { readLocality } from '../../shared/transport/local-socket.ts';
import type { Connection, Transport } from '../../shared/transport/transport.ts';
import type { SocketKind } from '../mesh/connect-mesh.ts';
import { PIECE_HEADER_BYTES } from './state-frames.ts';
import { MAX_PIECE_BYTES } from './state-pieces.ts';

const FIRST_RETRY_MS = 10;
const LONGEST_RETRY_MS = 250;

export interface DialHolderInit {
  /** As announced by the holder (data-port.ts). */
  readonly url: string;
  readonly path: string;
  readonly transport: Transport;
  /** Of the generation. */
  readonly secret: Uint8Array;
  readonly socket: SocketKind;
  /** For one dial. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** Ends the dialling; the caller keeps the deadline. */
  readonly signal: AbortSignal;
  /** Why a dial failed; the next one follows. */
  readonly onRetry: (failure: TrainerError) => void;
}

/** @throws ABORTED when the signal fires; AUTH_FAILED, MESSAGE_INVALID (an address that is none) at once */
export async function dialHolder(init: DialHolderInit): Promise<Connection> {
  const { url, path, transport, secret, timeoutMs, clock, signal } = init;
  const limits = { maxMessageBytes: PIECE_HEADER_BYTES + MAX_PIECE_BYTES };
  const routes = planRoutes(url, transport.scheme, init.socket === 'auto' ? readLocality() : null);
  for (let waitMs = FIRST_RETRY_MS; ; waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS)) {
    try {
      return await transport.dial(routes[0]! + path, { secret, timeoutMs, signal, limits });
    } catch (error) {
      const failure = toTrainerError(error);
      // A local socket where another process answers says nothing about the holder.
      const hasOtherRoute = routes.length > 1;
      if (!failure.retryable && (!hasOtherRoute || failure.code === 'ABORTED')) throw failure;
      init.onRetry(failure);
      // With a cause nobody answered; without one the holder answered and is not ready yet.
      if ((failure.cause !== undefined || !failure.retryable) && hasOtherRoute) routes.shift();
    }
    await clock.sleep(waitMs, signal);
  }
}
