/**
 * A trie over byte strings as a double array: the child of state s by byte b is t = base[s] + b if check[t] = s.
 *
 * With two flat arrays a step takes two loads, which makes the encoder fast.
 * Source: Aoe, "An efficient digital search algorithm by using a double-array structure", 1989.
 */

export interface ByteTrie {
  /** State 0 is the root. Each base + 255 is a valid index. */
  readonly base: Int32Array;
  /** Parent of a state, or -1. */
  readonly check: Int32Array;
  /** Index of the key that ends in a state, or -1. */
  readonly value: Int32Array;
}

const FREE = -1;
const ROOT_SLOT = -2;

class TrieBuilder {
  base = new Int32Array(1024);
  check = new Int32Array(1024).fill(FREE);
  value = new Int32Array(1024).fill(-1);
  #searchFrom = 1;
  #last = 0;

  constructor() {
    this.check[0] = ROOT_SLOT;
  }

  /** Adds children of `state` for these bytes (ascending), and returns their common base. */
  addChildren(state: number, labels: readonly number[]): number {
    const first = labels[0]!;
    let slot = Math.max(this.#searchFrom, first);
    let numTaken = 0;
    let isFirstFree = true;
    for (;;) {
      this.#reserve(slot + 512);
      if (this.check[slot] !== FREE) {
        numTaken++;
      } else {
        if (isFirstFree) {
          this.#searchFrom = slot;
          isFirstFree = false;
        }
        const base = slot - first;
        if (labels.every((label) => this.check[base + label] === FREE)) break;
      }
      slot++;
    }
    // Do not search a nearly full range again.
    if (numTaken >= 0.95 * (slot - this.#searchFrom + 1)) this.#searchFrom = slot;
    const base = slot - first;
    this.base[state] = base;
    for (const label of labels) this.check[base + label] = state;
    this.#last = Math.max(this.#last, base + labels[labels.length - 1]!);
    return base;
  }

  finish(): ByteTrie {
    const length = this.#last + 257;
    this.#reserve(length);
    return {
      base: this.base.slice(0, length),
      check: this.check.slice(0, length),
      value: this.value.slice(0, length),
    };
  }

  #reserve(length: number): void {
    if (length <= this.check.length) return;
    const capacity = Math.max(length, 2 * this.check.length);
    const grow = (old: Int32Array<ArrayBuffer>, fill: number): Int32Array<ArrayBuffer> => {
      const grown = new Int32Array(capacity).fill(fill, old.length);
      grown.set(old);
      return grown;
    };
    this.base = grow(this.base, 0);
    this.check = grow(this.check, FREE);
    this.value = grow(this.value, -1);
  }
}

/** @param keys distinct, not empty. The value of a key is its index. */
export function buildByteTrie(keys: readonly Uint8Array[]): ByteTrie {
  const order = keys.map((_, index) => index).sort((a, b) => Buffer.compare(keys[a]!, keys[b]!));
  const builder = new TrieBuilder();
  // Keys order[from, to) share their first `depth` bytes, which lead to `state`.
  const stack = [{ state: 0, from: 0, to: order.length, depth: 0 }];
  for (let range = stack.pop(); range !== undefined; range = stack.pop()) {
    const { state, to, depth } = range;
    let { from } = range;
    if (from < to && keys[order[from]!]!.length === depth) builder.value[state] = order[from++]!;
    if (from === to) continue;
    const labels: number[] = [];
    const starts: number[] = [];
    for (let i = from; i < to; i++) {
      const label = keys[order[i]!]![depth]!;
      if (label !== labels[labels.length - 1]) {
        labels.push(label);
        starts.push(i);
      }
    }
    const base = builder.addChildren(state, labels);
    labels.forEach((label, i) => {
      stack.push({ state: base + label, from: starts[i]!, to: starts[i + 1] ?? to, depth: depth + 1 });
    });
  }
  return builder.finish();
}

/** Length of the longest key that begins text[at, end). 0 if there is none. */
export function longestKey(trie: ByteTrie, text: Uint8Array, at: number, end: number): number {
  let longest = 0;
  let state = 0;
  for (let i = at; i < end; i++) {
    const next = trie.base[state]! + text[i]!;
    if (trie.check[next] !== state) break;
    state = next;
    if (trie.value[state]! >= 0) longest = i + 1 - at;
  }
  return longest;
}
