/** A Connection over an open `ws` WebSocket. Its buffers: ws's receive buffer, bounded by maxPayload, and the send queue, bounded here. */
import { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import { abortedError } from '../abort.ts';
import { plainAddress } from '../addresses.ts';
import type { Clock } from '../clock.ts';
import { TrainerError, type ErrorCode } from '../errors.ts';
import { Pings } from './pings.ts';
import { toCloseCode, toCloseInfo, toCloseReason } from './close-codes.ts';
import {
  CLOSE_TIMEOUT_MS,
  type CloseInfo,
  type Connection,
  type ConnectionLimits,
  type SendOptions,
} from './transport.ts';

const FIRST_PARTS = { binary: true, fin: false };
const LAST_PART = { binary: true, fin: true };

export interface WebSocketConnectionInit {
  readonly webSocket: WebSocket;
  /** The stream below the WebSocket: corked, so that the parts of a message leave in one system call. */
  readonly socket: Duplex;
  readonly peer: string;
  readonly path: string;
  readonly greeting: string;
  readonly limits: ConnectionLimits;
  /** The first message has not come yet: `maxFirstMessageBytes` holds for it. */
  readonly isFirstOpen: boolean;
  readonly clock: Clock;
}

/** Most bytes of a frame's head, its mask included. */
const MAX_HEAD_BYTES = 14;

/** Calls `onOver` once if more bytes come before the first message is complete than such a message takes. */
export function boundFirstMessage(webSocket: WebSocket, socket: Duplex, maxBytes: number, onOver: () => void): void {
  let numBytes = 0;
  let isOver = false;
  const count = (bytes: Buffer): void => {
    // ws has its own listener before this one: a read that completes the message is over when it comes here.
    if (isOver) return;
    numBytes += bytes.length;
    if (numBytes <= maxBytes + MAX_HEAD_BYTES) return;
    stop();
    onOver();
  };
  const stop = (): void => {
    isOver = true;
    socket.off('data', count);
    webSocket.off('message', stop);
  };
  socket.on('data', count);
  webSocket.prependOnceListener('message', stop);
}

export class WebSocketConnection implements Connection {
  readonly peer: string;
  readonly path: string;
  readonly greeting: string;
  readonly closed: Promise<CloseInfo>;
  readonly #webSocket: WebSocket;
  readonly #socket: Duplex;
  readonly #limits: ConnectionLimits;
  readonly #early: Uint8Array[] = [];
  readonly #pings: Pings;
  #handler: ((data: Uint8Array) => void) | null = null;
  #queuedBytes = 0;
  #queuedMessages = 0;
  #isClosing = false;
  #isFirstOpen: boolean;
  /** The failure on this side; more precise than the close code. */
  #error: TrainerError | null = null;

  constructor(init: WebSocketConnectionInit) {
    const { webSocket, socket, peer, path, greeting, limits, isFirstOpen, clock } = init;
    this.peer = peer;
    this.path = path;
    this.greeting = greeting;
    this.#webSocket = webSocket;
    this.#socket = socket;
    this.#limits = limits;
    this.#pings = new Pings({ peer, clock, send: (number) => webSocket.ping(String(number)) });
    this.#isFirstOpen = isFirstOpen;
    const { maxFirstMessageBytes, maxMessageBytes } = limits;
    if (isFirstOpen && maxFirstMessageBytes < maxMessageBytes)
      boundFirstMessage(webSocket, socket, maxFirstMessageBytes, () => this.#refuseFirst());
    webSocket.on('message', (data, isBinary) => this.#receive(data, isBinary));
    webSocket.on('pong', (payload) => this.#pings.answered(Number(payload.toString())));
    webSocket.on('error', (error: Error & { code?: string }) => {
      const code = error.code === 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH' ? 'MESSAGE_TOO_LARGE' : 'CONNECTION_LOST';
      const limit = code === 'MESSAGE_TOO_LARGE' ? `; expected at most ${limits.maxMessageBytes} B` : '';
      this.#error ??= new TrainerError(code, `connection to ${peer}: ${error.message}${limit}`, { cause: error });
      this.#terminateLater();
    });
    this.closed = new Promise((resolve) => {
      webSocket.once('close', (code, reason) => {
        this.#isClosing = true;
        const info = toCloseInfo(code, reason.toString(), peer);
        resolve(this.#error === null ? info : { ...info, error: this.#error });
        this.#pings.end(this.#lost());
      });
    });
  }

  get localAddress(): string | undefined {
    const address = this.#socket instanceof Socket ? this.#socket.localAddress : undefined;
    return address === undefined ? undefined : plainAddress(address);
  }

  get isOpen(): boolean {
    return !this.#isClosing && this.#webSocket.readyState === this.#webSocket.OPEN;
  }

  send(parts: readonly Uint8Array[], { signal }: SendOptions = {}): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(abortedError('sending', signal));
    if (!this.isOpen) return Promise.reject(this.#lost());
    const numBytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
    const { maxQueuedBytes, maxQueuedMessages } = this.#limits;
    if (this.#queuedMessages >= maxQueuedMessages || this.#queuedBytes + numBytes > maxQueuedBytes)
      return Promise.reject(
        new TrainerError(
          'SEND_OVERFLOW',
          `connection to ${this.peer}: ${this.#queuedMessages} messages with ${this.#queuedBytes} B wait already, ` +
            `${numBytes} B more pass the bound of ${maxQueuedMessages} messages, ${maxQueuedBytes} B; the peer reads too slowly`,
        ),
      );
    this.#queuedBytes += numBytes;
    this.#queuedMessages++;
    // Anonymous functions only: this runs once a frame, and naming a function costs more than the rest of it.
    return new Promise((resolve, reject) => {
      const abort = signal === undefined ? null : { onAbort: () => reject(abortedError('sending', signal)) };
      if (abort !== null) signal?.addEventListener('abort', abort.onAbort, { once: true });
      this.#write(parts, (error?: Error | null) => {
        this.#queuedBytes -= numBytes;
        this.#queuedMessages--;
        if (abort !== null) signal?.removeEventListener('abort', abort.onAbort);
        if (error === undefined || error === null) resolve();
        else reject(this.#lost(error));
      });
    });
  }

  #write(parts: readonly Uint8Array[], sent: (error?: Error | null) => void): void {
    const last = parts.at(-1) ?? new Uint8Array(0);
    this.#socket.cork();
    for (let i = 0; i < parts.length - 1; i++) this.#webSocket.send(parts[i]!, FIRST_PARTS);
    this.#webSocket.send(last, LAST_PART, sent);
    this.#socket.uncork();
  }

  onMessage(handler: (data: Uint8Array) => void): void {
    if (this.#handler !== null)
      throw new TrainerError('INTERNAL', `connection to ${this.peer}: onMessage was set twice`);
    this.#handler = handler;
    for (const data of this.#early.splice(0)) handler(data);
    this.#webSocket.resume();
  }

  #receive(data: unknown, isBinary: boolean): void {
    if (this.#isClosing) return;
    if (!isBinary || !(data instanceof Uint8Array)) {
      this.close('MESSAGE_INVALID', 'expected a binary message, got text');
      return;
    }
    if (this.#isFirstOpen && data.byteLength > this.#limits.maxFirstMessageBytes) {
      this.#refuseFirst();
      return;
    }
    this.#isFirstOpen = false;
    if (this.#handler !== null) this.#handler(data);
    else {
      // After this only messages of the same read of the socket can come.
      this.#early.push(data);
      this.#webSocket.pause();
    }
  }

  #refuseFirst(): void {
    this.close(
      'MESSAGE_TOO_LARGE',
      `expected a first message of at most ${this.#limits.maxFirstMessageBytes} B, got more`,
    );
  }

  ping(timeoutMs: number, signal?: AbortSignal): Promise<number> {
    return this.isOpen ? this.#pings.send(timeoutMs, signal) : Promise.reject(this.#lost());
  }

  close(code: ErrorCode | 'NORMAL', reason: string): void {
    if (this.#isClosing) return;
    this.#isClosing = true;
    if (code !== 'NORMAL') this.#error ??= new TrainerError(code, `connection to ${this.peer} closed here: ${reason}`);
    this.#webSocket.resume(); // a paused socket would never read the peer's close frame
    this.#webSocket.close(toCloseCode(code), toCloseReason(reason));
    this.#terminateLater();
  }

  #terminateLater(): void {
    const timer = setTimeout(() => this.#webSocket.terminate(), CLOSE_TIMEOUT_MS);
    this.#webSocket.once('close', () => clearTimeout(timer));
  }

  #lost(cause?: Error): TrainerError {
    return new TrainerError('CONNECTION_LOST', `connection to ${this.peer} is closed`, { cause: this.#error ?? cause });
  }
}
