/** One direction of a connection between two kernels: items arrive in order, each after its own delay, or wait while it is blocked. */
import type { ScheduledEvent, VirtualTime } from './virtual-clock.ts';

export interface WireInit<Item> {
  readonly time: VirtualTime;
  /** For traces. */
  readonly label: string;
  /** Delay of the next item, ms. */
  readonly delayMs: () => number;
  /** Whether no item gets through now; the owner calls `resume` when this changes. */
  readonly isBlocked: () => boolean;
  readonly arrive: (item: Item) => void;
}

export class Wire<Item> {
  readonly #init: WireInit<Item>;
  #items: { readonly item: Item; readonly dueMs: number }[] = [];
  /** Arrival of the first item. Undefined while items wait: the wire is blocked. */
  #arrival: ScheduledEvent | undefined;
  #lastDueMs = 0;

  constructor(init: WireInit<Item>) {
    this.#init = init;
  }

  push(item: Item): void {
    const { time, delayMs } = this.#init;
    this.#lastDueMs = Math.max(this.#lastDueMs, time.nowMs + delayMs());
    this.#items.push({ item, dueMs: this.#lastDueMs });
    if (this.#items.length === 1) this.#schedule(this.#lastDueMs - time.nowMs);
  }

  /** Continues if the wire is no longer blocked. */
  resume(): void {
    if (this.#arrival === undefined && this.#items.length > 0) this.#schedule(this.#init.delayMs());
  }

  /** Drops the items on their way. */
  clear(): void {
    this.#arrival?.cancel();
    this.#arrival = undefined;
    this.#items = [];
  }

  #schedule(delayMs: number): void {
    this.#arrival = this.#init.time.schedule(delayMs, this.#init.label, () => this.#arrive());
  }

  #arrive(): void {
    const { time, isBlocked, arrive } = this.#init;
    this.#arrival = undefined;
    if (isBlocked()) return;
    const first = this.#items.shift();
    const next = this.#items[0];
    if (next !== undefined) this.#schedule(Math.max(0, next.dueMs - time.nowMs));
    if (first !== undefined) arrive(first.item);
  }
}
