/**
 * What a process has given to one of its connections to send, until its kernel takes it. The kernels of both sides together hold a bounded
 * number of bytes and messages for a direction; what is more waits here, and its parts stay the sender's memory.
 */
import type { TrainerError } from '../../shared/errors.ts';
import type { RandomStream } from '../../shared/random.ts';
import { Backlog } from '../../shared/transport/backlog.ts';
import type { ConnectionLimits, SendOptions } from '../../shared/transport/transport.ts';
import type { ScheduledEvent } from './virtual-clock.ts';
import type { VirtualProcess } from './virtual-process.ts';

/** One in so many messages is not taken by the kernel at once, so that its parts stay the sender's memory for a while. */
const LATE_HAND_OVER = 8;
/** For how long at most, ms. */
const MAX_HAND_OVER_MS = 1;

export interface SendQueueInit {
  readonly process: VirtualProcess;
  readonly peer: string;
  /** For traces. */
  readonly label: string;
  readonly limits: ConnectionLimits;
  readonly random: RandomStream;
  /** Bytes and messages of this direction that the kernels hold. */
  readonly kernelBytes: number;
  readonly kernelMessages: number;
  /** What becomes of a message on its way; for faults. */
  readonly tamper: (data: Uint8Array) => Uint8Array;
  /** The kernel has taken a message. */
  readonly onTaken: (data: Uint8Array) => void;
  /** It has taken all that was queued. */
  readonly onDrained: () => void;
}

export class SendQueue {
  readonly #init: SendQueueInit;
  readonly #queue: Backlog;
  #handOver: ScheduledEvent | undefined;
  /** Taken by the kernel and not yet by the other process. */
  #kernelBytes = 0;
  #kernelMessages = 0;
  #isOver = false;

  constructor(init: SendQueueInit) {
    this.#init = init;
    const { peer, limits } = init;
    this.#queue = new Backlog({ peer, limits, onQueued: () => this.handOver() });
  }

  /** @returns resolves when the kernel has taken the message @throws SEND_OVERFLOW, ABORTED, what the queue is ended with */
  push(parts: readonly Uint8Array[], signal: SendOptions['signal']): Promise<void> {
    return this.#queue.push(parts, signal);
  }

  /** Lets the kernel take what it has room for. */
  handOver(): void {
    const { process, random, label } = this.#init;
    if (process.state !== 'running' || this.#handOver !== undefined || this.#isOver) return;
    while (this.#queue.length > 0 && this.#hasRoom(this.#queue.first!.numBytes)) {
      if (random.nextBelow(LATE_HAND_OVER) === 0) {
        this.#handOver = process.schedule(random.nextFloat() * MAX_HAND_OVER_MS, `${label} hand-over`, () => {
          this.#handOver = undefined;
          if (this.#isOver) return;
          this.#handOverOne();
          this.handOver();
        });
        return;
      }
      this.#handOverOne();
    }
    if (this.#queue.length === 0) this.#init.onDrained();
  }

  /** The other process has taken so many bytes in one message. */
  read(numBytes: number): void {
    this.#kernelBytes -= numBytes;
    this.#kernelMessages -= 1;
    this.handOver();
  }

  /** Nothing more is sent. @param error of those that wait; without it none of them settles, as in a process that has crashed */
  end(error?: TrainerError): void {
    this.#isOver = true;
    this.#queue.end(error);
  }

  #hasRoom(numBytes: number): boolean {
    const { kernelBytes, kernelMessages } = this.#init;
    if (this.#kernelMessages === 0) return true;
    return this.#kernelMessages < kernelMessages && this.#kernelBytes + numBytes <= kernelBytes;
  }

  #handOverOne(): void {
    const message = this.#queue.shift();
    if (message === undefined) return;
    const data = this.#init.tamper(new Uint8Array(Buffer.concat(message.parts)));
    this.#kernelBytes += data.length;
    this.#kernelMessages += 1;
    this.#init.onTaken(data);
    message.finish(null);
  }
}
