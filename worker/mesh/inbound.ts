/** The receiving half of a channel: frames from one peer, in order. The receiver dials, so that bulk data is not masked. */
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import { LOCAL_PROTOCOL } from '../../shared/transport/local-socket.ts';
import type { Connection, DialInit, Transport } from '../../shared/transport/transport.ts';
import { dialPlaced } from '../../shared/transport/websocket-placed.ts';
import { decodeFrameHeader, FRAME_HEADER_BYTES, isStoredFrame, type FrameHeader } from './frame-header.ts';
import type { FrameSink } from './peer-channel.ts';
import type { OutboxReader } from './outbox.ts';

/**
 * `direct`: the kernel writes payloads straight into the arena (WebSockets only).
 * `message`: over any Transport; each payload is copied once more.
 */
export type ChannelKind = 'direct' | 'message';

export interface Inbound {
  readonly connection: Connection;
  readonly roundTripMs: number;
  /** The peer may leave payloads in its outbox. */
  readonly readsOutbox: boolean;
  /** Called once; before it any frame is FRAME_INVALID, because the peer sends none before it is asked to. */
  start(sink: FrameSink): void;
}

/** Each may wait until the peer is idle. */
const MAX_PINGS = 8;
/** A round trip this short widens no window, ms. */
const SHORT_MS = 1;

type FrameHandlers = Pick<FrameSink, 'targetFor' | 'received'>;

const NOT_STARTED: FrameHandlers = {
  targetFor: () => {
    throw new TrainerError('FRAME_INVALID', 'expected no frame before this side was ready, got one');
  },
  received: () => undefined,
};

/**
 * @param openOutbox called when the peer has accepted, with its greeting: its outbox, or null
 * @throws what the transport's `dial` throws
 */
export async function dialDirect(
  url: string,
  init: DialInit,
  openOutbox: (greeting: string) => OutboxReader | null,
): Promise<Inbound> {
  let sink = NOT_STARTED;
  let header: FrameHeader | null = null;
  let outbox: OutboxReader | null = null;
  /** Target of a payload that is in the outbox; null while the payload itself is received. */
  let stored: Uint8Array | null = null;
  const position = Buffer.alloc(8);
  const connection = await dialPlaced(url, init, {
    headerBytes: FRAME_HEADER_BYTES,
    place: (bytes) => {
      header = decodeFrameHeader(bytes);
      const target = sink.targetFor(header);
      stored = isStoredFrame(bytes) ? target : null;
      return stored === null ? target : position;
    },
    received: () => {
      if (stored !== null) readStored(outbox, Number(position.readBigUInt64LE()), stored);
      sink.received(header!);
    },
  });
  const roundTripMs = url.startsWith(LOCAL_PROTOCOL) ? 0 : await measureRoundTrip(connection, init);
  outbox = openOutbox(connection.greeting);
  void connection.closed.then(() => outbox?.close());
  return { connection, roundTripMs, readsOutbox: outbox !== null, start: (started) => (sink = started) };
}

/** The shortest of a few pings. The connection is closed where it throws. @throws CONNECT_FAILED, ABORTED */
async function measureRoundTrip(connection: Connection, { timeoutMs, signal }: DialInit): Promise<number> {
  try {
    let shortestMs = Infinity;
    for (let i = 0; i < MAX_PINGS && shortestMs > SHORT_MS; i++)
      shortestMs = Math.min(shortestMs, await connection.ping(timeoutMs, signal));
    return shortestMs;
  } catch (error) {
    const { code, message } = toTrainerError(error);
    connection.close(code === 'ABORTED' ? code : 'CONNECT_FAILED', message);
    if (code === 'ABORTED') throw error;
    // Without a cause, since the peer has answered.
    throw new TrainerError('CONNECT_FAILED', `the round trip could not be measured: ${message}`, { retryable: true });
  }
}

function readStored(outbox: OutboxReader | null, position: number, target: Uint8Array): void {
  if (outbox === null) throw new TrainerError('FRAME_INVALID', 'expected a payload, got a position in an outbox');
  outbox.read(position, target);
}

/** @param maxFrameBytes most payload bytes of one frame @throws what the transport's `dial` throws */
export async function dialMessages(
  transport: Transport,
  url: string,
  init: DialInit,
  maxFrameBytes: number,
): Promise<Inbound> {
  const limits = { ...init.limits, maxMessageBytes: FRAME_HEADER_BYTES + maxFrameBytes };
  const connection = await transport.dial(url, { ...init, limits });
  const receive = (sink: FrameHandlers, message: Uint8Array): void => {
    try {
      const header = decodeFrameHeader(message.subarray(0, FRAME_HEADER_BYTES));
      const target = sink.targetFor(header);
      const payload = message.subarray(FRAME_HEADER_BYTES);
      if (payload.byteLength !== target.byteLength)
        throw new TrainerError(
          'FRAME_INVALID',
          `frame payload: expected ${target.byteLength} B, got ${payload.byteLength} B`,
        );
      target.set(payload);
      sink.received(header);
    } catch (error) {
      if (!(error instanceof TrainerError)) throw error;
      connection.close(error.code, error.message);
    }
  };
  return {
    connection,
    roundTripMs: await measureRoundTrip(connection, init),
    readsOutbox: false,
    start: (sink) => {
      if (connection.isOpen) connection.onMessage((message) => receive(sink, message));
    },
  };
}
