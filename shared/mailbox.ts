/**
 * A bounded queue between callbacks and one reader: sockets and threads put events in, a loop removes them in order.
 * The bound limits memory: a sender that floods the mailbox is cut off. A waiting reader wakes after the turn of the event loop in which
 * the first event came. So a thousand events of one turn cost one wait, not a thousand.
 */
import { throwIfAborted } from './abort.ts';
import type { Clock } from './clock.ts';

/** Reason of an abort: without one, abort() makes an error with its stack for each wait. */
const OVER = 'an event came, or the wait was aborted';

export class Mailbox<Event> {
  readonly #events: Event[] = [];
  readonly #capacity: number;
  readonly #clock: Clock;
  #wake: (() => void) | undefined;

  /** @param capacity events that may wait at the same time */
  constructor(capacity: number, clock: Clock) {
    this.#capacity = capacity;
    this.#clock = clock;
  }

  get size(): number {
    return this.#events.length;
  }

  /** @returns false when the mailbox is full: the event was not added, and the sender must be cut off */
  put(event: Event): boolean {
    if (this.#events.length >= this.#capacity) return false;
    this.putAlways(event);
    return true;
  }

  /** Adds an event that must never be lost, also when the mailbox is full. The caller bounds how many of these can wait. */
  putAlways(event: Event): void {
    this.#events.push(event);
    this.wake();
  }

  /** Lets a waiting reader go on without an event: there is something else to do. */
  wake(): void {
    if (this.#wake !== undefined) setImmediate(this.#wake);
    this.#wake = undefined;
  }

  /**
   * The next event, or undefined when none came within `timeoutMs` or before `wake`. One reader at a time.
   * @throws ABORTED when the signal fires first
   */
  async next(timeoutMs: number, signal?: AbortSignal): Promise<Event | undefined> {
    throwIfAborted(signal, 'waiting for events');
    if (this.#events.length === 0) await this.#waitForEvent(timeoutMs, signal);
    return this.#events.shift();
  }

  /** Resolves with an event or after the timeout. */
  async #waitForEvent(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    const over = new AbortController();
    const callOff = (): void => over.abort(OVER);
    this.#wake = callOff;
    signal?.addEventListener('abort', callOff, { once: true });
    try {
      await this.#clock.sleep(timeoutMs, over.signal);
    } catch (error) {
      if (!over.signal.aborted) throw error;
    } finally {
      this.#wake = undefined;
      signal?.removeEventListener('abort', callOff);
    }
    throwIfAborted(signal, 'waiting for events');
  }
}
