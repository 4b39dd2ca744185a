/**
 * Dials a peer and lets the kernel read the payloads of its messages straight into the memory that their headers name, without a copy in
 * user space.
 *
 * ws does the handshake, answers pings, sends, and closes; this file only receives. Node's public `onread` option of the TCP socket reads
 * into our buffers. Handshake bytes and control frames are pushed to ws, messages are not. The bytes behind the empty line of the HTTP
 * response are frames, even if the same read brought them.
 */
import type { Socket } from 'node:net';
import { TrainerError, toTrainerError } from '../errors.ts';
import { PlacedFrameReader, type PlacedMessages } from './placed-frame-reader.ts';
import type { Connection, DialInit } from './transport.ts';
import { dialWebSocket } from './websocket-dial.ts';

const HANDSHAKE_END = Buffer.from('\r\n\r\n');
const MAX_HANDSHAKE_BYTES = 16384;
const IS_UPGRADED = /^HTTP\/1\.1 101 /;

/**
 * @param messages an error that it throws, or a frame of another form, closes the connection with its code
 * @returns a connection whose `onMessage` never fires
 * @throws CONNECT_FAILED, AUTH_FAILED, ABORTED, CONFIG_INVALID
 */
export async function dialPlaced(url: string, init: DialInit, messages: PlacedMessages): Promise<Connection> {
  const receiver = new PlacedReceiver(messages);
  const connection = await dialWebSocket(url, init, receiver.onread, (socket) => (receiver.socket = socket));
  receiver.attach(connection);
  return connection;
}

class PlacedReceiver {
  socket: Socket | null = null;
  readonly onread = {
    buffer: (): Uint8Array => this.#next(),
    callback: (n: number, b: Uint8Array) => this.#read(n, b),
  };
  readonly #reader: PlacedFrameReader;
  readonly #handshakeBuffer = Buffer.alloc(MAX_HANDSHAKE_BYTES);
  #handshake: Buffer = Buffer.alloc(0);
  /** `dead`: the stream cannot be parsed any more. */
  #state: 'handshake' | 'frames' | 'refused' | 'dead' = 'handshake';
  #connection: Connection | null = null;
  #error: TrainerError | null = null;

  constructor(messages: PlacedMessages) {
    this.#reader = new PlacedFrameReader(messages, (frame) => this.socket?.push(frame));
  }

  attach(connection: Connection): void {
    this.#connection = connection;
    if (this.#error !== null) connection.close(this.#error.code, this.#error.message);
    void connection.closed.then(() => this.#reader.discardMessages());
  }

  #next(): Uint8Array {
    return this.#state === 'frames' ? this.#reader.next() : this.#handshakeBuffer;
  }

  /** @returns true: continue to read */
  #read(numBytes: number, buffer: Uint8Array): boolean {
    if (this.#state === 'dead') return true;
    if (this.#state === 'refused') this.socket?.push(Buffer.from(buffer.subarray(0, numBytes)));
    else
      try {
        if (this.#connection?.isOpen === false) this.#reader.discardMessages();
        if (this.#state === 'handshake') this.#readHandshake(buffer.subarray(0, numBytes));
        // The first read after the handshake still lands in the handshake's buffer.
        else if (buffer.buffer === this.#handshakeBuffer.buffer) this.#reader.feed(buffer.subarray(0, numBytes));
        else this.#reader.consume(numBytes);
      } catch (error) {
        this.#fail(toTrainerError(error));
      }
    return true;
  }

  #readHandshake(bytes: Uint8Array): void {
    this.#handshake = Buffer.concat([this.#handshake, bytes]);
    const end = this.#handshake.indexOf(HANDSHAKE_END);
    if (end < 0) {
      if (this.#handshake.length < MAX_HANDSHAKE_BYTES) return;
      this.socket?.destroy(
        new TrainerError('CONNECT_FAILED', `HTTP response headers are over ${MAX_HANDSHAKE_BYTES} B`),
      );
      this.#state = 'dead';
      return;
    }
    const response = this.#handshake;
    const bodyAt = end + HANDSHAKE_END.length;
    this.#handshake = Buffer.alloc(0);
    const isUpgraded = IS_UPGRADED.test(response.subarray(0, 16).toString('latin1'));
    this.#state = isUpgraded ? 'frames' : 'refused';
    this.socket?.push(isUpgraded ? response.subarray(0, bodyAt) : response);
    if (isUpgraded) this.#reader.feed(response.subarray(bodyAt));
  }

  #fail(error: TrainerError): void {
    this.#state = 'dead';
    this.#error = error;
    this.#connection?.close(error.code, error.message);
  }
}
