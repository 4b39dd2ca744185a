/**
 * The n-grams of documents that are held in memory, and those of them that a text has. Texts are streamed past; only the documents take memory.
 *
 * Definitions: a gram is `longest` consecutive words of a document. A document with fewer words, and at least `shortest`, is one gram as a whole.
 * Assumption: grams with the same 53-bit hash are the same gram. Among a million grams and a billion words of text, one false match is expected
 * in ten such searches.
 */

/** Words of a gram, as in GPT-3's decontamination. */
export const GRAM_WORDS = 13;

export interface GramLengths {
  readonly longest: number;
  readonly shortest: number;
}

/** Bytes of a gram in the table, which is at most half full, and of a place of a gram in a document. */
const BYTES_A_SLOT = 8 + 4;
const BYTES_A_PLACE = 4 + 4;
const NONE = -1;

export class GramIndex {
  readonly #lengths: GramLengths;
  /** Words of the grams that there are. */
  readonly #used = new Set<number>();
  #hashes = new Float64Array(1024).fill(NONE);
  /** Slot → the place of the gram that was added last. */
  #lastPlaces = new Int32Array(1024);
  #numGrams = 0;
  #documents = new Int32Array(1024);
  /** Place → the place of the same gram before it, or NONE. */
  #before = new Int32Array(1024);
  #numPlaces = 0;

  constructor(lengths: GramLengths = { longest: GRAM_WORDS, shortest: GRAM_WORDS }) {
    this.#lengths = lengths;
  }

  get numGrams(): number {
    return this.#numGrams;
  }

  get bytes(): number {
    return this.#hashes.length * BYTES_A_SLOT + this.#documents.length * BYTES_A_PLACE;
  }

  /** @param document its number; the grams of several texts may belong to it */
  add(document: number, words: readonly string[]): void {
    const { longest, shortest } = this.#lengths;
    const length = Math.min(longest, words.length);
    if (length === 0 || length < shortest) return;
    this.#used.add(length);
    for (const hash of gramHashes(words, length)) this.#put(hash, document);
  }

  /** Calls `found` with the number of each document that shares a gram with the text; a number may come several times. */
  search(words: readonly string[], found: (document: number) => void): void {
    for (const length of this.#used)
      for (const hash of gramHashes(words, length)) {
        const slot = this.#slotOf(hash);
        if (this.#hashes[slot] === NONE) continue;
        for (let place = this.#lastPlaces[slot]!; place !== NONE; place = this.#before[place]!)
          found(this.#documents[place]!);
      }
  }

  #put(hash: number, document: number): void {
    if (2 * (this.#numGrams + 1) > this.#hashes.length) this.#growTable();
    const slot = this.#slotOf(hash);
    const isNew = this.#hashes[slot] === NONE;
    const before = isNew ? NONE : this.#lastPlaces[slot]!;
    if (before !== NONE && this.#documents[before] === document) return;
    if (isNew) {
      this.#hashes[slot] = hash;
      this.#numGrams++;
    }
    if (this.#numPlaces === this.#documents.length) {
      this.#documents = doubled(this.#documents);
      this.#before = doubled(this.#before);
    }
    const place = this.#numPlaces++;
    this.#documents[place] = document;
    this.#before[place] = before;
    this.#lastPlaces[slot] = place;
  }

  /** Linear probing. @returns the slot of the gram, or the free one where it belongs */
  #slotOf(hash: number): number {
    const mask = this.#hashes.length - 1;
    let slot = (hash % 0x1_0000_0000) & mask;
    while (this.#hashes[slot] !== hash && this.#hashes[slot] !== NONE) slot = (slot + 1) & mask;
    return slot;
  }

  #growTable(): void {
    const hashes = this.#hashes;
    const lastPlaces = this.#lastPlaces;
    this.#hashes = new Float64Array(2 * hashes.length).fill(NONE);
    this.#lastPlaces = new Int32Array(2 * hashes.length);
    for (const [slot, hash] of hashes.entries()) {
      if (hash === NONE) continue;
      const free = this.#slotOf(hash);
      this.#hashes[free] = hash;
      this.#lastPlaces[free] = lastPlaces[slot]!;
    }
  }
}

function doubled(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * array.length);
  larger.set(array);
  return larger;
}

/** Odd multipliers of two polynomial hashes modulo 2^32 (constants of MurmurHash3 and xxHash). */
const FIRST_BASE = 0x85ebca6b;
const SECOND_BASE = 0x9e3779b1;

/** The 53-bit hash of each run of `length` words, by two rolling hashes. The length is part of the hash. */
function* gramHashes(words: readonly string[], length: number): Generator<number> {
  if (words.length < length) return;
  const hashes = words.map(hashWord);
  let firstTop = 1;
  let secondTop = 1;
  for (let i = 1; i < length; i++) {
    firstTop = Math.imul(firstTop, FIRST_BASE);
    secondTop = Math.imul(secondTop, SECOND_BASE);
  }
  let first = 0;
  let second = 0;
  for (const [i, hash] of hashes.entries()) {
    const scrambled = Math.imul(hash ^ (hash >>> 15), SECOND_BASE);
    if (i >= length) {
      const left = hashes[i - length]!;
      first = (first - Math.imul(left, firstTop)) | 0;
      second = (second - Math.imul(Math.imul(left ^ (left >>> 15), SECOND_BASE), secondTop)) | 0;
    }
    first = (Math.imul(first, FIRST_BASE) + hash) | 0;
    second = (Math.imul(second, SECOND_BASE) + scrambled) | 0;
    if (i < length - 1) continue;
    const mixed = finish(first ^ Math.imul(length, FIRST_BASE));
    yield (finish(second) >>> 11) * 0x1_0000_0000 + (mixed >>> 0);
  }
}

/** FNV-1a over UTF-16 units: no bytes are allocated for a word. */
function hashWord(word: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < word.length; i++) hash = Math.imul(hash ^ word.charCodeAt(i), 0x01000193);
  return hash;
}

/** MurmurHash3's finalizer: each bit of the input changes half of the bits. */
function finish(hash: number): number {
  let mixed = hash ^ (hash >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed ^= mixed >>> 13;
  mixed = Math.imul(mixed, 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
