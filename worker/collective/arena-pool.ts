/**
 * Gradient memory that generations have left, for the next ones: it is large, and slow to make. A memory may come back only when nothing
 * can write to it any more: the links of its collective are gone.
 */
import { Arena, type ArenaLayout } from './arena.ts';

export class ArenaPool {
  readonly #capacity: number;
  readonly #free: WebAssembly.Memory[] = [];

  /** @param capacity memories that are kept at most */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** An arena whose memory is zero, used before where one is large enough. @throws CONFIG_INVALID as Arena does */
  take(layout: ArenaLayout): Arena {
    const place = this.#free.findIndex(({ buffer }) => buffer.byteLength >= layout.totalBytes);
    if (place < 0) {
      this.#free.shift(); // too small for what is needed now: gone before more is asked for
      return new Arena(layout);
    }
    const [memory] = this.#free.splice(place, 1);
    new Uint8Array(memory!.buffer).fill(0);
    return new Arena(layout, memory);
  }

  give({ memory }: Arena): void {
    if (this.#free.length < this.#capacity) this.#free.push(memory);
  }
}
