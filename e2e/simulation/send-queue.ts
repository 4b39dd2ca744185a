/**
 * Messages of a connection that the sender's kernel has not accepted yet. The kernels of both sides together buffer a bounded number of bytes
 * and messages per direction. Further messages wait here, and until then their parts belong to the sender.
 */
import type { TrainerError } from '../../shared/errors.ts';
import type { RandomStream } from '../../shared/random.ts';
import { Backlog } from '../../shared/transport/backlog.ts';
import type { ConnectionLimits, SendOptions } from '../../shared/transport/transport.ts';
import type { ScheduledEvent } from './virtual-clock.ts';
import type { VirtualProcess } from './virtual-process.ts';

/** The kernel accepts one in so many messages late, so that its parts belong to the sender for longer. */
const LATE_HAND_OVER = 8;
/** Longest such delay, ms. */
const MAX_HAND_OVER_MS = 1;

export interface SendQueueInit {
  readonly process: VirtualProcess;
  readonly peer: string;
  /** For traces. */
  readonly label: string;
  readonly limits: ConnectionLimits;
  readonly random: RandomStream;
  /** Bytes and messages of this direction that the kernels can buffer. */
  readonly kernelBytes: number;
  readonly kernelMessages: number;
  /** Changes a message on its way; for faults. */
  readonly tamper: (data: Uint8Array) => Uint8Array;
  /** Called when the kernel accepts a message. */
  readonly onAccepted: (data: Uint8Array) => void;
  /** Called when the kernel has accepted all queued messages. */
  readonly onDrained: () => void;
}

export class SendQueue {
  readonly #init: SendQueueInit;
  readonly #queue: Backlog;
  #handOver: ScheduledEvent | undefined;
  /** Accepted by the kernel and not yet read by the other process. */
  #kernelBytes = 0;
  #kernelMessages = 0;
  #isOver = false;

  constructor(init: SendQueueInit) {
    this.#init = init;
    const { peer, limits } = init;
    this.#queue = new Backlog({ peer, limits, onQueued: () => this.handOver() });
  }

  /** @returns resolves when the kernel has accepted the message @throws SEND_OVERFLOW, ABORTED, the error of `end` */
  push(parts: readonly Uint8Array[], signal: SendOptions['signal']): Promise<void> {
    return this.#queue.push(parts, signal);
  }

  /** Hands over as many messages as the kernel can buffer. */
  handOver(): void {
    const { process, random, label } = this.#init;
    if (process.state !== 'running' || this.#handOver !== undefined || this.#isOver) return;
    while (this.#queue.length > 0 && this.#canBuffer(this.#queue.first!.numBytes)) {
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

  /** The other process has read one message of so many bytes. */
  read(numBytes: number): void {
    this.#kernelBytes -= numBytes;
    this.#kernelMessages -= 1;
    this.handOver();
  }

  /** Stops sending. @param error rejects the waiting messages; without it they never settle, as in a crashed process */
  end(error?: TrainerError): void {
    this.#isOver = true;
    this.#queue.end(error);
  }

  #canBuffer(numBytes: number): boolean {
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
    this.#init.onAccepted(data);
    message.finish(null);
  }
}
