/**
 * Frames to and from one peer, in order, received in place: the interface that the all-reduce uses.
 * Implementation: DuplexChannel over two connections. Inbound is `direct` (payload read straight into the arena) or `message` (any Transport).
 */
import type { ErrorCode, TrainerError } from '../../shared/errors.ts';
import type { FrameHeader } from './frame-header.ts';

/** Receives one peer's frames. A TrainerError thrown by `targetFor` or `received` closes the channel with its code. */
export interface FrameSink {
  /** The peer is ready to receive: so many pieces to it may be under way. Called once. */
  ready(window: number): void;
  /** A header has arrived. @returns the view to write the payload to @throws FRAME_STALE, FRAME_INVALID */
  targetFor(header: FrameHeader): Uint8Array;
  /** The payload is complete in that view. @throws FRAME_INVALID */
  received(header: FrameHeader): void;
  /** The channel is closed; called once, also after the own `close`. */
  closed(error: TrainerError): void;
}

export interface PeerChannel {
  readonly peerRank: number;
  /** Measured while connecting; 0 for a peer of the own host at a local socket. */
  readonly roundTripMs: number;
  /** Resolves when all sockets of the channel are closed: nothing is read into the arena any more. */
  readonly closed: Promise<void>;
  /** Starts receiving, and asks the peer for so many pieces under way; called once, before anything else. */
  start(sink: FrameSink, window: number): void;
  /**
   * Sends one frame. The payload must not change until the promise settles.
   * Resolves when the frame has been handed to the kernel. @throws SEND_OVERFLOW, CONNECTION_LOST
   */
  send(header: FrameHeader, payload: Uint8Array): Promise<void>;
  /** Closes both directions. @param code why; 'NORMAL': all is done. Idempotent. */
  close(code: ErrorCode | 'NORMAL', reason: string): void;
}
