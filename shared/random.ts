/**
 * Counter-based random numbers: value number `c` of stream `key` is a pure function of (key, c). So any thread can compute any value. Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 */

const M0_LOW = 0xd2511f53;
const M1_LOW = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;

/** High 32 bits of the 64-bit product of two uint32. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const low = aLow * bLow;
  const middle1 = aHigh * bLow + (low >>> 16);
  const middle2 = aLow * bHigh + (middle1 & 0xffff);
  return (aHigh * bHigh + Math.floor(middle1 / 65536) + Math.floor(middle2 / 65536)) >>> 0;
}

/**
 * One Philox4x32-10 block.
 * @param counter four uint32; @param key two uint32; @param out receives four uint32 (as unsigned numbers)
 */
export function philox4x32(counter: ArrayLike<number>, key: ArrayLike<number>, out: Uint32Array): void {
  let c0 = counter[0]! >>> 0;
  let c1 = counter[1]! >>> 0;
  let c2 = counter[2]! >>> 0;
  let c3 = counter[3]! >>> 0;
  let k0 = key[0]! >>> 0;
  let k1 = key[1]! >>> 0;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(M0_LOW, c0);
    const low0 = Math.imul(M0_LOW, c0) >>> 0;
    const high1 = mulHigh(M1_LOW, c2);
    const low1 = Math.imul(M1_LOW, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

/**
 * Words of consecutive blocks: word 4i + j is word j of the block with the counter [i, 0, counter2, counter3]. Faster than a call for each block.
 * @param words receives signed words @param key two uint32
 */
export function fillPhilox(words: Int32Array, counter2: number, counter3: number, key: ArrayLike<number>): void {
  const [key0, key1] = [key[0]! | 0, key[1]! | 0];
  const { length } = words;
  for (let word = 0; word < length; word += 4) {
    let c0 = word >>> 2;
    let c1 = 0;
    let c2 = counter2 | 0;
    let c3 = counter3 | 0;
    let k0 = key0;
    let k1 = key1;
    for (let round = 0; round < 10; round++) {
      const high0 = mulHighInt(c0, M0_LOW >>> 16, M0_LOW & 0xffff);
      const high1 = mulHighInt(c2, M1_LOW >>> 16, M1_LOW & 0xffff);
      const low0 = Math.imul(M0_LOW, c0);
      const low1 = Math.imul(M1_LOW, c2);
      c0 = high1 ^ c1 ^ k0;
      c1 = low1;
      c2 = high0 ^ c3 ^ k1;
      c3 = low0;
      k0 = (k0 + WEYL_0) | 0;
      k1 = (k1 + WEYL_1) | 0;
    }
    // Writes beyond the end of a typed array are ignored.
    words[word] = c0;
    words[word + 1] = c1;
    words[word + 2] = c2;
    words[word + 3] = c3;
  }
}

/** mulHigh in int32 arithmetic alone: no number leaves the processor's integer registers. @param high, low halves of b */
function mulHighInt(a: number, high: number, low: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const middle1 = Math.imul(aHigh, low);
  const middle2 = Math.imul(aLow, high);
  const carry = (Math.imul(aLow, low) >>> 16) + (middle1 & 0xffff) + (middle2 & 0xffff);
  return (Math.imul(aHigh, high) + (middle1 >>> 16) + (middle2 >>> 16) + (carry >>> 16)) | 0;
}

/** 32-bit FNV-1a of a UTF-8 string: turns a name into a number of a key. */
export function hashName(name: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(name)) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}

/**
 * A stream of random numbers for one purpose, named by integers, e.g. (seed, hashName('span-corruption'), task, epoch, example).
 * Two streams with different names are independent; the same name gives the same numbers everywhere.
 */
export class RandomStream {
  readonly #key = new Uint32Array(2);
  readonly #counter = new Uint32Array(4);
  readonly #block = new Uint32Array(4);
  #used = 4;

  /** @param names non-negative integers below 2^53; their order matters. */
  constructor(names: readonly number[]) {
    // Absorb the names, two words each, by chained Philox blocks: key ← first half of Philox(name, position; key).
    for (let i = 0; i < names.length; i++) {
      const name = names[i]!;
      this.#counter[0] = name >>> 0;
      this.#counter[1] = Math.floor(name / 4294967296) >>> 0;
      this.#counter[2] = i;
      this.#counter[3] = names.length;
      philox4x32(this.#counter, this.#key, this.#block);
      this.#key[0] = this.#block[0]!;
      this.#key[1] = this.#block[1]!;
    }
    this.#counter.fill(0);
  }

  /** Uniform uint32. */
  nextUint32(): number {
    if (this.#used === 4) {
      philox4x32(this.#counter, this.#key, this.#block);
      this.#used = 0;
      this.#counter[0] = this.#counter[0]! + 1; // a Uint32Array wraps at 2^32
      if (this.#counter[0] === 0) this.#counter[1] = this.#counter[1]! + 1;
    }
    return this.#block[this.#used++]!;
  }

  /** Uniform in [0, 1) with 53 bits. */
  nextFloat(): number {
    return ((this.nextUint32() >>> 5) * 67108864 + (this.nextUint32() >>> 6)) / 9007199254740992;
  }

  /** Uniform integer in [0, bound), bound ≤ 2^32, without modulo bias (rejection). */
  nextBelow(bound: number): number {
    const limit = 4294967296 - (4294967296 % bound);
    for (;;) {
      const value = this.nextUint32();
      if (value < limit) return value % bound;
    }
  }

  /** Standard normal (Box–Muller; the second value of the pair is dropped so that the stream stays a pure function of the call count). */
  nextNormal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.nextFloat()));
    return radius * Math.cos(2 * Math.PI * this.nextFloat());
  }

  /** Fisher–Yates shuffle in place. */
  shuffle(values: Int32Array | Uint32Array | number[]): void {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.nextBelow(i + 1);
      const swap = values[i]!;
      values[i] = values[j]!;
      values[j] = swap;
    }
  }
}
