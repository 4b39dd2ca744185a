/** One direction of a connection between two kernels: what is put in comes out in order, each after a delay of its own, or is held. */
import type { ScheduledEvent, VirtualTime } from './virtual-clock.ts';

export interface WireInit<Item> {
  readonly time: VirtualTime;
  /** For traces. */
  readonly label: string;
  /** Of the next item, ms. */
  readonly delayMs: () => number;
  /** Nothing comes through now; `resume` is called when that changes. */
  readonly isBlocked: () => boolean;
  readonly arrive: (item: Item) => void;
}

export class Wire<Item> {
  readonly #init: WireInit<Item>;
  #items: { readonly item: Item; readonly dueMs: number }[] = [];
  /** The first item is on its way; without it while items wait, the wire is blocked. */
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

  /** It may be open again. */
  resume(): void {
    if (this.#arrival === undefined && this.#items.length > 0) this.#schedule(this.#init.delayMs());
  }

  /** What is on its way is lost. */
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
