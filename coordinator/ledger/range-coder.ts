/**
 * Range coder: symbols of known probability → bytes, at the cost that information theory gives them.
 *
 * Definition (G. N. N. Martin, 1979, with carries): the encoder holds an interval [low, low + range) of a number written in base
 * 256; a symbol that takes `size` of `total` narrows the interval to its part; whenever range < 2^24 the top byte of low leaves.
 * A later carry can still raise bytes that are 255, so those wait. The decoder follows the same intervals.
 *
 * Assumptions: total ≤ 2^16 in `encode`, so that at most 0.4 % of the range is lost; both sides make the same calls. All numbers are
 * integers below 2^53, so the arithmetic is exact. Trailing zero bytes are not written: behind the end the decoder reads zeros.
 */

const TOP = 2 ** 24;
const FULL = 2 ** 32;
const HALF_BITS = 16;
const HALF = 2 ** HALF_BITS;

export class RangeEncoder {
  #bytes = new Uint8Array(1024);
  #length = 0;
  #low = 0;
  #range = FULL - 1;
  /** The byte before those that wait; −1 before the first. */
  #cache = -1;
  /** Bytes 255 that a carry may still turn into 0. */
  #numWaiting = 0;

  /** A symbol that holds [start, start + size) of [0, total). */
  encode(start: number, size: number, total: number): void {
    const unit = Math.floor(this.#range / total);
    this.#low += start * unit;
    this.#range = start + size < total ? size * unit : this.#range - start * unit;
    while (this.#range < TOP) {
      this.#shift();
      this.#range *= 256;
    }
  }

  /** A value of [0, total), all equally likely; total ≤ 2^32. */
  encodeUniform(value: number, total: number): void {
    if (total <= HALF) {
      this.encode(value, 1, total);
      return;
    }
    const high = Math.floor(value / HALF);
    const numHigh = Math.ceil(total / HALF);
    this.encode(high, 1, numHigh);
    this.encode(value - high * HALF, 1, high === numHigh - 1 ? total - high * HALF : HALF);
  }

  /** The low `numBits` ≤ 53 bits of a value. */
  encodeBits(value: number, numBits: number): void {
    let rest = value;
    for (let left = numBits; left > 0; left -= HALF_BITS) {
      const total = 2 ** Math.min(left, HALF_BITS);
      this.encode(rest % total, 1, total);
      rest = Math.floor(rest / total);
    }
  }

  /** The bytes; nothing can be encoded after it. */
  finish(): Uint8Array<ArrayBuffer> {
    // Any number of the interval will do: the one with the most zeros at its end, as range ≥ 2^24 here.
    this.#low = Math.ceil(this.#low / TOP) * TOP;
    for (let i = 0; i < 5; i++) this.#shift();
    let end = this.#length;
    while (end > 0 && this.#bytes[end - 1] === 0) end -= 1;
    return this.#bytes.slice(0, end);
  }

  #shift(): void {
    if (this.#low < 0xff00_0000 || this.#low >= FULL) {
      const carry = this.#low >= FULL ? 1 : 0;
      if (this.#cache >= 0) this.#push(this.#cache + carry);
      for (; this.#numWaiting > 0; this.#numWaiting--) this.#push(255 + carry);
      this.#cache = Math.floor(this.#low / TOP) & 255;
    } else this.#numWaiting += 1;
    this.#low = (this.#low % TOP) * 256;
  }

  #push(byte: number): void {
    if (this.#length === this.#bytes.length) {
      const larger = new Uint8Array(2 * this.#length);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#bytes[this.#length++] = byte; // a Uint8Array wraps at 256
  }
}

export class RangeDecoder {
  readonly #bytes: Uint8Array;
  #at = 0;
  #code = 0;
  #range = FULL - 1;
  #unit = 1;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    for (let i = 0; i < 4; i++) this.#code = this.#code * 256 + this.#next();
  }

  /** Where in [0, total) the next symbol lies; to be followed by `take` with the interval that holds it. */
  peek(total: number): number {
    this.#unit = Math.floor(this.#range / total);
    return Math.min(total - 1, Math.floor(this.#code / this.#unit));
  }

  take(start: number, size: number, total: number): void {
    this.#code -= start * this.#unit;
    this.#range = start + size < total ? size * this.#unit : this.#range - start * this.#unit;
    while (this.#range < TOP) {
      this.#code = this.#code * 256 + this.#next();
      this.#range *= 256;
    }
  }

  decodeUniform(total: number): number {
    if (total <= HALF) return this.#takeOne(total);
    const numHigh = Math.ceil(total / HALF);
    const high = this.#takeOne(numHigh);
    return high * HALF + this.#takeOne(high === numHigh - 1 ? total - high * HALF : HALF);
  }

  decodeBits(numBits: number): number {
    let value = 0;
    let scale = 1;
    for (let left = numBits; left > 0; left -= HALF_BITS) {
      const total = 2 ** Math.min(left, HALF_BITS);
      value += this.#takeOne(total) * scale;
      scale *= total;
    }
    return value;
  }

  #takeOne(total: number): number {
    const value = this.peek(total);
    this.take(value, 1, total);
    return value;
  }

  #next(): number {
    return this.#bytes[this.#at++] ?? 0;
  }
}
