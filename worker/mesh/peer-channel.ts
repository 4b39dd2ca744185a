/**
 * What the all-reduce needs of the way to one peer, whatever carries it: frames in order, received in place.
 * Implementations: direct channels (payload read straight into the arena) and message channels (over any Transport).
 */
import type { ErrorCode, TrainerError } from '../../shared/errors.ts';
import type { FrameHeader } from './frame-header.ts';

/** What the all-reduce does with one peer's frames. A TrainerError thrown by `place` or `received` closes the link with its code. */
export interface FrameSink {
  /** The peer reads from now on: so many pieces to it may be under way. Called once. */
  ready(window: number): void;
  /** A header arrived: the exact view the payload is to be written to. @throws FRAME_STALE, FRAME_INVALID */
  targetFor(header: FrameHeader): Uint8Array;
  /** The payload is complete in its place. @throws FRAME_INVALID */
  received(header: FrameHeader): void;
  /** The link is gone; called once, also after the own `close`. */
  closed(error: TrainerError): void;
}

export interface PeerChannel {
  readonly peerRank: number;
  /** Measured when it was made; 0 for a peer of the own host at a local socket. */
  readonly roundTripMs: number;
  /** Resolves when all sockets of the link are gone: from then on nothing is read into the arena. */
  readonly closed: Promise<void>;
  /** Starts reading, and tells the peer how many pieces may be under way from it; called once, before anything else. */
  start(sink: FrameSink, window: number): void;
  /**
   * Sends one frame. The payload must not change until the promise settles.
   * Resolves when the frame has been handed to the kernel. @throws SEND_OVERFLOW, CONNECTION_LOST
   */
  send(header: FrameHeader, payload: Uint8Array): Promise<void>;
  /** Closes both directions; a code says why, 'NORMAL' that all is done. Idempotent. */
  close(code: ErrorCode | 'NORMAL', reason: string): void;
}
