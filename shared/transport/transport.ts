/**
 * How messages get from one process to another, whatever carries them: WebSockets in the product, memory in tests and
 * simulation. compliance.ts is the contract; every implementation passes it.
 *
 * Guarantees: messages arrive once, whole and in order, or the connection closes; nothing is buffered without a bound; a
 * peer without the token never gets a byte of a message through. No promise of this interface rejects unless it is awaited by
 * the one who called.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../clock.ts';
import type { ErrorCode, TrainerError } from '../errors.ts';

export interface CloseInfo {
  /** WebSocket close code: 1000, or 4000 + … (close-codes.ts), or 1006 where no close frame came. */
  readonly code: number;
  readonly reason: string;
  /** Why, as an error; undefined after a normal close. */
  readonly error?: TrainerError;
}

export interface ConnectionLimits {
  /** Largest message that is received; a larger one closes the connection with MESSAGE_TOO_LARGE. */
  readonly maxMessageBytes: number;
  /** Most bytes that wait to be handed to the kernel. */
  readonly maxQueuedBytes: number;
  /** Most messages that wait to be handed to the kernel. */
  readonly maxQueuedMessages: number;
}

/** For control messages: a deal or report costs some 5 B an example and 40 B a pair of lane and task. */
export const DEFAULT_CONNECTION_LIMITS: ConnectionLimits = {
  maxMessageBytes: 16 << 20,
  maxQueuedBytes: 64 << 20,
  maxQueuedMessages: 1024,
};

export interface SendOptions {
  /** Stops waiting; a message that has been queued is sent all the same. */
  readonly signal?: AbortSignal;
}

export interface Connection {
  /** The other end's address, for messages to people. */
  readonly peer: string;
  /** Path and query that the dialling side asked for. */
  readonly path: string;
  readonly isOpen: boolean;
  /** Resolves when the connection is over, for whatever reason; never rejects. */
  readonly closed: Promise<CloseInfo>;
  /**
   * Sends one message, the parts put together; they must not change until the promise settles.
   * Resolves when the message has been handed to the kernel. @throws SEND_OVERFLOW, CONNECTION_LOST, ABORTED
   */
  send(parts: readonly Uint8Array[], options?: SendOptions): Promise<void>;
  /** Messages wait (and the peer with them) until a handler is set; it is set once. The data is the handler's own. */
  onMessage(handler: (data: Uint8Array) => void): void;
  /**
   * Round trip, ms.
   * @throws CONNECTION_LOST; CONNECT_FAILED after the deadline; ABORTED; SEND_OVERFLOW if MAX_PINGS have no answer yet, also if their
   * deadlines are over
   */
  ping(timeoutMs: number, signal?: AbortSignal): Promise<number>;
  /** Tells the peer why and ends the connection, by force after CLOSE_TIMEOUT_MS. Idempotent. */
  close(code: ErrorCode | 'NORMAL', reason: string): void;
}

/** Most pings of one connection without an answer. */
export const MAX_PINGS = 16;

/** How long a peer has to answer a close frame. */
export const CLOSE_TIMEOUT_MS = 1000;

/** A connection or request that was turned away. */
export interface Refusal {
  readonly remote: string;
  readonly code: ErrorCode;
  readonly reason: string;
}

export interface ListenInit {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  readonly token: string;
  /** Called for each admitted connection; sets `onMessage` when it likes. */
  readonly onConnection: (connection: Connection) => void;
  readonly onRefused?: (refusal: Refusal) => void;
  /** Decides by path, after the token; a returned sentence refuses the connection. */
  readonly admit?: (path: string) => string | null;
  /** Plain HTTP requests that carry the token. Only WebSocket listeners have them. */
  readonly onRequest?: (request: IncomingMessage, response: ServerResponse) => void;
  readonly limits?: Partial<ConnectionLimits>;
  /** Measures pings and their deadlines (default: the system's). A simulated transport has its own. */
  readonly clock?: Clock;
  /** Time for a new socket to show the token (default 5 s). */
  readonly handshakeTimeoutMs?: number;
  /** Most sockets that have not shown the token yet (default 64); with one more, the oldest is dropped. */
  readonly maxUnauthenticated?: number;
  /** Listen for processes of this host on a local socket as well, where there is such a thing; the token is asked for alike. */
  readonly localSocket?: boolean;
}

export interface Listener {
  readonly port: number;
  /** To dial it from the same host; append a path. */
  readonly url: string;
  /** To dial it through its local socket; append a path. Null where it has none. */
  readonly localUrl: string | null;
  /** Ends listening and all its connections. Idempotent. */
  close(): Promise<void>;
}

export interface DialInit {
  readonly token: string;
  /** For the whole handshake. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly limits?: Partial<ConnectionLimits>;
  /** As in ListenInit. */
  readonly clock?: Clock;
}

export interface Transport {
  /** @throws PORT_IN_USE */
  listen(init: ListenInit): Promise<Listener>;
  /** @throws CONNECT_FAILED (nobody there, refused, deadline), AUTH_FAILED, ABORTED, CONFIG_INVALID for a wrong address */
  dial(url: string, init: DialInit): Promise<Connection>;
}
