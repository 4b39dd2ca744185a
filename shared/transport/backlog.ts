/** Messages that wait to be sent, of connections without a kernel: within the bounds of the connection, each settled once. */
import { abortedError } from '../abort.ts';
import { TrainerError } from '../errors.ts';
import type { ConnectionLimits, SendOptions } from './transport.ts';

export interface WaitingMessage {
  readonly parts: readonly Uint8Array[];
  readonly numBytes: number;
  /** Resolves or rejects what `push` returned. */
  readonly settle: (error: TrainerError | null) => void;
}

export interface BacklogInit {
  readonly peer: string;
  readonly limits: ConnectionLimits;
  /** One more waits. */
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

  /** The oldest one; it stays. */
  get first(): WaitingMessage | undefined {
    return this.#messages[0];
  }

  /** @returns resolves when the message is settled @throws SEND_OVERFLOW, ABORTED, what the backlog is ended with */
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
      const settle = (error: TrainerError | null): void => {
        signal?.removeEventListener('abort', onAbort);
        if (error === null) resolve();
        else reject(error);
      };
      this.#numBytes += numBytes;
      this.#messages.push({ parts, numBytes, settle });
      onQueued();
    });
  }

  /** Takes the oldest one. */
  shift(): WaitingMessage | undefined {
    const message = this.#messages.shift();
    this.#numBytes -= message?.numBytes ?? 0;
    return message;
  }

  /** Nothing waits any more. @param error of those that did; without it none of them settles */
  end(error?: TrainerError): void {
    if (error !== undefined) for (const { settle } of this.#messages) settle(error);
    this.#messages = [];
    this.#numBytes = 0;
  }
}
