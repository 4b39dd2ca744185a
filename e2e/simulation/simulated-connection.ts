/**
 * One end of a connection of the simulation, with the rules and codes of shared/transport. The kernel of its process is between it and
 * the wire. The kernels of both sides together buffer a bounded number of bytes per direction; further messages wait in the sender.
 *
 * An end is called only while its process runs; otherwise arriving messages wait in the kernel. When a process crashes, its kernel ends
 * the connection: after the messages that were already sent, or instead of them (a reset).
 */
import { abortedError } from '../../shared/abort.ts';
import { TrainerError, type ErrorCode } from '../../shared/errors.ts';
import type { RandomStream } from '../../shared/random.ts';
import { toCloseCode, toCloseInfo, toCloseReason } from '../../shared/transport/close-codes.ts';
import { Pings } from '../../shared/transport/pings.ts';
import {
  CLOSE_TIMEOUT_MS,
  type CloseInfo,
  type Connection,
  type ConnectionLimits,
  type SendOptions,
} from '../../shared/transport/transport.ts';
import { SendQueue } from './send-queue.ts';
import type { ScheduledEvent, VirtualTime } from './virtual-clock.ts';
import type { VirtualProcess } from './virtual-process.ts';
import { Wire } from './wire.ts';

/** Close code of a connection without a close frame. */
const NO_CLOSE_FRAME = 1006;
type WireItem =
  | { readonly kind: 'opened' }
  | { readonly kind: 'data'; readonly data: Uint8Array }
  | { readonly kind: 'close'; readonly code: number; readonly reason: string }
  | { readonly kind: 'close-answer' }
  /** The other side has ended without a close frame. */
  | { readonly kind: 'gone' };

export interface EndInit {
  readonly time: VirtualTime;
  readonly process: VirtualProcess;
  readonly peer: string;
  readonly path: string;
  readonly greeting: string;
  readonly limits: ConnectionLimits;
  readonly random: RandomStream;
  /** Delay of one message, ms. */
  readonly delayMs: () => number;
  /** Whether no message reaches the other side now. */
  readonly isBlocked: () => boolean;
  /** Bytes and messages of this direction that the kernels can buffer. */
  readonly kernelBytes: number;
  readonly kernelMessages: number;
  /** Changes a message on its way; for faults. */
  readonly tamper: (data: Uint8Array) => Uint8Array;
}

export class ConnectionEnd implements Connection {
  readonly peer: string;
  readonly path: string;
  readonly greeting: string;
  readonly closed: Promise<CloseInfo>;
  readonly process: VirtualProcess;
  /** Called once, when the other side has accepted the connection. */
  onOpened: () => void = () => undefined;
  readonly #init: EndInit;
  readonly #label: string;
  /** Direction to the other end. */
  readonly #wire: Wire<WireItem>;
  readonly #sending: SendQueue;
  #other!: ConnectionEnd;
  #arrived: WireItem[] = [];
  #delivery: ScheduledEvent | undefined;
  #handler: ((data: Uint8Array) => void) | null = null;
  #isClosing = false;
  /** No message has come. */
  #isFirstOpen = true;
  #isOver = false;
  #isGoneSent = false;
  /** Arguments of `close`. The frame is sent after all messages that were queued before it. */
  #ownClose: { readonly code: number; readonly reason: string } = { code: NO_CLOSE_FRAME, reason: '' };
  #hasCloseToSend = false;
  #error: TrainerError | null = null;
  readonly #pings: Pings;
  #end!: (info: CloseInfo) => void;

  constructor(init: EndInit, otherName: string) {
    this.#init = init;
    this.peer = init.peer;
    this.path = init.path;
    this.greeting = init.greeting;
    this.process = init.process;
    this.#label = `${init.process.name} → ${otherName}`;
    const { peer, process } = init;
    this.#pings = new Pings({ peer, clock: process.clock, send: (number) => this.#sendPing(number) });
    this.closed = new Promise((resolve) => (this.#end = resolve));
    const { time, delayMs, isBlocked } = init;
    const arrive = (item: WireItem): void => this.#other.#arrive(item);
    this.#wire = new Wire<WireItem>({ time, label: `${this.#label} ${init.path}`, delayMs, isBlocked, arrive });
    this.#sending = new SendQueue({
      ...init,
      label: this.#label,
      onAccepted: (data) => this.#wire.push({ kind: 'data', data }),
      onDrained: () => this.#sendClose(),
    });
  }

  pairWith(other: ConnectionEnd): void {
    this.#other = other;
  }

  get isOpen(): boolean {
    return !this.#isClosing && !this.#isOver;
  }

  /** Whether this end is closed. */
  get isOver(): boolean {
    return this.#isOver;
  }

  send(parts: readonly Uint8Array[], { signal }: SendOptions = {}): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(abortedError('sending', signal));
    if (!this.isOpen) return Promise.reject(this.#lost());
    return this.#sending.push(parts, signal);
  }

  onMessage(handler: (data: Uint8Array) => void): void {
    if (this.#handler !== null)
      throw new TrainerError('INTERNAL', `connection to ${this.peer}: onMessage was set twice`);
    this.#handler = handler;
    this.#deliverLater();
  }

  ping(timeoutMs: number, signal?: AbortSignal): Promise<number> {
    return this.isOpen ? this.#pings.send(timeoutMs, signal) : Promise.reject(this.#lost());
  }

  /** The peer answers if the link is open and the peer runs when the answer is due. */
  #sendPing(number: number): void {
    const { time, process, delayMs, isBlocked } = this.#init;
    const label = `${this.#label} ping`;
    time.schedule(delayMs() + delayMs(), label, () => {
      const answers = !isBlocked() && this.#other.process.state === 'running' && !this.#other.#isOver;
      if (answers) process.enter(label, () => this.#pings.answered(number));
    });
  }

  close(code: ErrorCode | 'NORMAL', reason: string): void {
    if (!this.isOpen) return;
    this.#isClosing = true;
    if (code !== 'NORMAL') this.#error = new TrainerError(code, `connection to ${this.peer} closed here: ${reason}`);
    this.#ownClose = { code: toCloseCode(code), reason: toCloseReason(reason) };
    this.#hasCloseToSend = true;
    this.#sending.handOver();
    // Drop unread messages, so that they do not delay the close frame of the other side.
    this.#arrived = this.#arrived.filter(({ kind }) => kind !== 'data');
    this.#deliverLater();
    this.process.schedule(CLOSE_TIMEOUT_MS, `${this.#label} closing`, () => this.terminate());
  }

  /** Ends the connection without a close frame; the kernel notifies the other side. */
  terminate(): void {
    if (this.#isOver) return;
    this.#wire.clear();
    this.#sendGone();
    this.#finish(toCloseInfo(NO_CLOSE_FRAME, '', this.peer));
  }

  /** Accepts the connection and notifies the other side. */
  accept(): void {
    this.#wire.push({ kind: 'opened' });
  }

  /** Sends waiting messages if the wire is no longer blocked. */
  resume(): void {
    this.#wire.resume();
  }

  /** The process has crashed: the kernel ends the connection. @param isReset drops the messages on their way */
  crashed(isReset: boolean): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sending.end();
    if (isReset) this.#wire.clear();
    this.#sendGone();
  }

  /** The process has been continued. */
  continued(): void {
    this.#sending.handOver();
    this.#deliverLater();
  }

  /** This side learns after `delayMs` that the connection is broken; the other side does not learn of it from this. */
  breakAfter(delayMs: number): void {
    this.#init.time.schedule(delayMs, `${this.#label} breaks`, () =>
      this.process.enter(`${this.#label} breaks`, () => this.#finish(toCloseInfo(NO_CLOSE_FRAME, '', this.peer))),
    );
  }

  /** Sends the close frame, once the queue is empty. */
  #sendClose(): void {
    if (!this.#hasCloseToSend) return;
    this.#hasCloseToSend = false;
    this.#wire.push({ kind: 'close', ...this.#ownClose });
  }

  #sendGone(): void {
    if (this.#isGoneSent) return;
    this.#isGoneSent = true;
    this.#wire.push({ kind: 'gone' });
  }

  /** An item arrives in the kernel of this side. */
  #arrive(item: WireItem): void {
    if (this.#isOver) {
      this.#sendGone(); // this side does not read any more
      return;
    }
    this.#arrived.push(item);
    if (this.#delivery === undefined) this.#deliver();
  }

  /** Delivers one item per event, so that its effects are complete before the next one. */
  #deliverLater(): void {
    if (this.#delivery !== undefined || this.#arrived.length === 0) return;
    this.#delivery = this.#init.time.schedule(0, `${this.#label} reads`, () => {
      this.#delivery = undefined;
      this.#deliver();
    });
  }

  #deliver(): void {
    if (this.process.state !== 'running' || this.#isOver) return;
    const isRead = this.#handler !== null || this.#isClosing;
    // Unread messages delay later items, but not the notice that the other side is gone.
    const at = this.#arrived.findIndex(({ kind }, i) => kind === 'gone' || (i === 0 && (kind !== 'data' || isRead)));
    const item = this.#arrived[at];
    if (item === undefined) return;
    this.#arrived.splice(at, 1);
    this.#deliverLater();
    switch (item.kind) {
      case 'opened':
        this.onOpened();
        break;
      case 'data':
        this.#receive(item.data);
        break;
      case 'close':
        this.#receiveClose(item);
        break;
      case 'close-answer':
        this.#finish(this.#ownClose);
        break;
      case 'gone':
        this.#finish(toCloseInfo(NO_CLOSE_FRAME, '', this.peer));
        break;
    }
  }

  #receive(data: Uint8Array): void {
    this.#other.#sending.read(data.length);
    if (this.#isClosing) return;
    const { maxMessageBytes, maxFirstMessageBytes } = this.#init.limits;
    const limit = this.#isFirstOpen ? Math.min(maxFirstMessageBytes, maxMessageBytes) : maxMessageBytes;
    this.#isFirstOpen = false;
    if (data.length > limit) this.close('MESSAGE_TOO_LARGE', `expected at most ${limit} B, got ${data.length} B`);
    else this.#handler!(data);
  }

  #receiveClose({ code, reason }: { readonly code: number; readonly reason: string }): void {
    // If both sides close at the same time, each treats the other's frame as the answer.
    if (!this.#isClosing) this.#wire.push({ kind: 'close-answer' });
    this.#finish(toCloseInfo(code, reason, this.peer));
  }

  #finish(info: CloseInfo): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#sending.end(this.#lost());
    this.#pings.end(this.#lost());
    this.#arrived = [];
    this.#end(this.#error === null ? info : { ...info, error: this.#error });
  }

  #lost(): TrainerError {
    return new TrainerError('CONNECTION_LOST', `connection to ${this.peer} is closed`, {
      cause: this.#error ?? undefined,
    });
  }
}
