/** The send queue of a connection without a kernel, within the bounds of the connection. */
import { abortedError } from '../abort.ts';
import { TrainerError } from '../errors.ts';
import type { ConnectionLimits, SendOptions } from './transport.ts';

export interface WaitingMessage {
  readonly parts: readonly Uint8Array[];
  readonly numBytes: number;
  /** Ends the wait of `push`: null for a message that was sent. Called once. */
  readonly finish: (error: TrainerError | null) => void;
}

export interface BacklogInit {
  readonly peer: string;
  readonly limits: ConnectionLimits;
  /** Called when a message was queued. */
  readonly onQueued: () => void;
}

export class Backlog {
  readonly #init: BacklogInit;
  #messages: WaitingMessage[] = [];
  #numBytes = 0;

  constructor(init: BacklogInit) {
    this.#init = init;
  }

  get length(): number {
    return this.#messages.length;
  }

  /** The oldest message; it stays in the queue. */
  get first(): WaitingMessage | undefined {
    return this.#messages[0];
  }

  /** @returns resolves when the message was sent @throws SEND_OVERFLOW, ABORTED, the error of `end` */
  push(parts: readonly Uint8Array[], signal: SendOptions['signal']): Promise<void> {
    const { peer, limits, onQueued } = this.#init;
    const { maxQueuedBytes, maxQueuedMessages } = limits;
    const numBytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
    if (this.#messages.length >= maxQueuedMessages || this.#numBytes + numBytes > maxQueuedBytes)
      return Promise.reject(
        new TrainerError(
          'SEND_OVERFLOW',
          `connection to ${peer}: more than ${maxQueuedMessages} messages or ${maxQueuedBytes} B would wait; the peer reads too slowly`,
        ),
      );
    return new Promise((resolve, reject) => {
      const onAbort = (): void => reject(abortedError('sending', signal));
      signal?.addEventListener('abort', onAbort, { once: true });
      const finish = (error: TrainerError | null): void => {
        signal?.removeEventListener('abort', onAbort);
        if (error === null) resolve();
        else reject(error);
      };
      this.#numBytes += numBytes;
      this.#messages.push({ parts, numBytes, finish });
      onQueued();
    });
  }

  /** Removes the oldest message. */
  shift(): WaitingMessage | undefined {
    const message = this.#messages.shift();
    this.#numBytes -= message?.numBytes ?? 0;
    return message;
  }

  /** Empties the queue. @param error rejects the waiting sends; without it they stay pending */
  end(error?: TrainerError): void {
    if (error !== undefined) for (const { finish } of this.#messages) finish(error);
    this.#messages = [];
    this.#numBytes = 0;
  }
}
