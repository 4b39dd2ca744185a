/**
 * Messages between processes: over WebSockets in the product, in memory in tests, over a simulated network in the simulation.
 * compliance.ts is the contract; every implementation passes it.
 *
 * Guarantees: messages arrive once, whole and in order, or the connection closes. Every buffer is bounded. A peer has shown the token,
 * or has proved the secret, before any of its messages is read. Only promises that were returned to the caller reject.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../clock.ts';
import type { ErrorCode, TrainerError } from '../errors.ts';
import type { Challenge } from './mutual-proof.ts';

export interface CloseInfo {
  /** WebSocket close code: 1000, 4000 + … (close-codes.ts), or 1006 if no close frame came. */
  readonly code: number;
  readonly reason: string;
  /** The reason as an error; undefined after a normal close. */
  readonly error?: TrainerError;
}

export interface ConnectionLimits {
  /** Largest message that is received; a larger one closes the connection with MESSAGE_TOO_LARGE. */
  readonly maxMessageBytes: number;
  /** The same of the first message; no more bytes are kept before it is complete. */
  readonly maxFirstMessageBytes: number;
  /** Most bytes that wait to be handed to the kernel. */
  readonly maxQueuedBytes: number;
  /** Most messages that wait to be handed to the kernel. */
  readonly maxQueuedMessages: number;
}

/** For control messages: a deal or report costs some 5 B an example and 40 B a pair of lane and task. */
export const DEFAULT_CONNECTION_LIMITS: ConnectionLimits = {
  maxMessageBytes: 16 << 20,
  maxFirstMessageBytes: 16 << 20,
  maxQueuedBytes: 64 << 20,
  maxQueuedMessages: 1024,
};

export interface SendOptions {
  /** Ends the wait; a queued message is still sent. */
  readonly signal?: AbortSignal;
}

export interface Connection {
  /** Address of the other end, for messages to people. */
  readonly peer: string;
  /** Own address of the TCP socket; undefined where there is none. */
  readonly localAddress?: string | undefined;
  /** Path and query that the dialling side requested. */
  readonly path: string;
  /** Text of the listener; '' unless both sides have proved a secret (mutual-proof.ts). */
  readonly greeting: string;
  readonly isOpen: boolean;
  /** Resolves when the connection is over, for any reason; never rejects. */
  readonly closed: Promise<CloseInfo>;
  /**
   * Sends one message, the concatenated parts; they must not change until the promise settles.
   * Resolves when the message has been handed to the kernel. @throws SEND_OVERFLOW, CONNECTION_LOST, ABORTED
   */
  send(parts: readonly Uint8Array[], options?: SendOptions): Promise<void>;
  /** Sets the handler, once. Until then messages wait and the peer is held back. The handler owns the data. */
  onMessage(handler: (data: Uint8Array) => void): void;
  /**
   * Round trip, ms.
   * @throws CONNECTION_LOST; CONNECT_FAILED after the deadline; ABORTED; SEND_OVERFLOW if MAX_PINGS have no answer yet, also if their
   * deadlines are over
   */
  ping(timeoutMs: number, signal?: AbortSignal): Promise<number>;
  /** Sends the peer code and reason and ends the connection, by force after CLOSE_TIMEOUT_MS. Idempotent. */
  close(code: ErrorCode | 'NORMAL', reason: string): void;
}

/** Most pings of one connection without an answer. */
export const MAX_PINGS = 16;

/** Time for a peer to answer a close frame. */
export const CLOSE_TIMEOUT_MS = 1000;

/** A refused connection or request. */
export interface Refusal {
  readonly remote: string;
  readonly code: ErrorCode;
  readonly reason: string;
}

interface ListenOptions {
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  /** Called for each admitted connection; may set `onMessage` later. */
  readonly onConnection: (connection: Connection) => void;
  readonly onRefused?: (refusal: Refusal) => void;
  /** Plain HTTP requests that carry the token. Only WebSocket listeners have them. */
  readonly onRequest?: (request: IncomingMessage, response: ServerResponse) => void;
  readonly limits?: Partial<ConnectionLimits>;
  /** Measures pings and their deadlines (default: the system's). A simulated transport has its own. */
  readonly clock?: Clock;
  /** Time for a new socket to authenticate (default 5 s). */
  readonly handshakeTimeoutMs?: number;
  /** Most sockets that have not authenticated yet (default 64); with one more, the oldest is dropped. */
  readonly maxUnauthenticated?: number;
  /** Also listen on a local socket for processes of this host, if the system has local sockets. They authenticate too. */
  readonly localSocket?: boolean;
}

/** Peers show the token, which everyone who dials the run has. */
interface TokenListening {
  readonly token: string;
  /** Called with the path after the token was verified; a returned sentence refuses the connection. */
  readonly admit?: (path: string) => string | null;
}

/** Both sides prove that they have the secret of the path. The token of the run is not sent. */
interface ProofListening {
  /**
   * Called with the path before the handshake, and again after the peer's proof: meanwhile the path may have been taken, or another secret
   * may hold. A returned sentence refuses the connection.
   */
  readonly challenge: (path: string) => Challenge | string;
}

export type ListenInit = ListenOptions & (TokenListening | ProofListening);

export interface Listener {
  readonly port: number;
  /** To dial it from the same host; append a path. */
  readonly url: string;
  /** To dial it through its local socket; append a path. Null if it has none. */
  readonly localUrl: string | null;
  /** Ends listening and all its connections. Idempotent. */
  close(): Promise<void>;
}

interface DialOptions {
  /** For the whole handshake. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly limits?: Partial<ConnectionLimits>;
  /** As in ListenInit. */
  readonly clock?: Clock;
}

/** With a token, it is sent. With a secret, it is proved, after the listener has proved it. */
export type DialInit = DialOptions & ({ readonly token: string } | { readonly secret: Uint8Array });

export interface Transport {
  /** Of its addresses, without the colon. */
  readonly scheme: string;
  /** @throws PORT_IN_USE */
  listen(init: ListenInit): Promise<Listener>;
  /** @throws CONNECT_FAILED (nobody listens, refused, deadline), AUTH_FAILED (of either side), ABORTED, CONFIG_INVALID for a wrong address */
  dial(url: string, init: DialInit): Promise<Connection>;
}
