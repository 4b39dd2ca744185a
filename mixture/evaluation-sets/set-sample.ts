/**
 * A uniform sample of at most `size` items of a stream, by priority sampling: the items with the smallest keys. Pure.
 *
 * The key of item n is a random number named by the set and n. So the sample depends on neither process nor time, and a smaller sample is a
 * part of a larger one. Memory: `size` numbers.
 */
import { hashName, RandomStream } from '../../shared/random.ts';

const SET_SAMPLE = hashName('evaluation-set-sample');
const KEYS = 2 ** 32;
/** Two items with equal random numbers are told apart by their places, modulo this. */
const PLACES = 2 ** 21;

export class SetSample {
  readonly #size: number;
  readonly #name: readonly number[];
  /** The keys of the sample: a binary heap, the largest first. */
  readonly #heap: number[] = [];
  #numSeen = 0;

  /** @param size at least 1 */
  constructor(size: number, task: string, set: string) {
    this.#size = size;
    this.#name = [SET_SAMPLE, hashName(task), hashName(set)];
  }

  get numSeen(): number {
    return this.#numSeen;
  }

  /** @returns the key of the next item, or undefined if it is not in the sample. A later item may still push it out (`has`). */
  add(): number | undefined {
    const place = this.#numSeen++;
    const key = new RandomStream([...this.#name, place]).nextBelow(KEYS) * PLACES + (place % PLACES);
    if (this.#heap.length < this.#size) {
      this.#heap.push(key);
      this.#rise(this.#heap.length - 1);
      return key;
    }
    if (key >= this.#heap[0]!) return undefined;
    this.#heap[0] = key;
    this.#sink(0);
    return key;
  }

  /** Whether the item with this key is in the sample now. */
  has(key: number): boolean {
    return key <= this.#heap[0]!;
  }

  #rise(from: number): void {
    for (let at = from; at > 0;) {
      const parent = (at - 1) >> 1;
      if (this.#heap[parent]! >= this.#heap[at]!) return;
      this.#swap(at, parent);
      at = parent;
    }
  }

  #sink(from: number): void {
    for (let at = from; ;) {
      let largest = at;
      for (const child of [2 * at + 1, 2 * at + 2])
        if (child < this.#heap.length && this.#heap[child]! > this.#heap[largest]!) largest = child;
      if (largest === at) return;
      this.#swap(at, largest);
      at = largest;
    }
  }

  #swap(a: number, b: number): void {
    const kept = this.#heap[a]!;
    this.#heap[a] = this.#heap[b]!;
    this.#heap[b] = kept;
  }
}
