/** A binary heap of events by (due time, sequence number): events that are due at the same time fire in the order of scheduling. */

export interface QueuedEvent {
  /** Virtual time, ms. */
  readonly dueMs: number;
  readonly sequence: number;
  /** For traces: process and action. */
  readonly label: string;
  readonly fire: () => void;
  /** A cancelled event stays in the heap until it would be due. */
  isCancelled: boolean;
}

export class EventQueue {
  readonly #heap: QueuedEvent[] = [];

  push(event: QueuedEvent): void {
    const heap = this.#heap;
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  /** The next event that is not cancelled; it stays in the queue. */
  peek(): QueuedEvent | undefined {
    while (this.#heap[0]?.isCancelled === true) this.#removeFirst();
    return this.#heap[0];
  }

  /** Removes and returns the next event that is not cancelled. */
  pop(): QueuedEvent | undefined {
    return this.peek() === undefined ? undefined : this.#removeFirst();
  }

  #removeFirst(): QueuedEvent | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

function isBefore(a: QueuedEvent, b: QueuedEvent): boolean {
  return a.dueMs < b.dueMs || (a.dueMs === b.dueMs && a.sequence < b.sequence);
}
