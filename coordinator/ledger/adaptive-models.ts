/**
 * Probabilities learnt on the way: symbols and numbers for the range coder. Encoder and decoder learn the same from the same symbols,
 * so nothing about them is stored; a model lives as long as one segment of the ledger.
 */
import type { RangeDecoder, RangeEncoder } from './range-coder.ts';

/** What one occurrence counts: a symbol seen for the first time is soon expected. */
const INCREMENT = 24;
/** Counts are halved above this: the past fades after some thousands of symbols, and totals stay within the range coder's bound. */
const MAX_TOTAL = 2 ** 16;

/** One of a fixed set of symbols. */
export class SymbolModel {
  readonly #counts: Uint32Array;
  #total: number;

  constructor(numSymbols: number) {
    this.#counts = new Uint32Array(numSymbols).fill(1);
    this.#total = numSymbols;
  }

  encode(encoder: RangeEncoder, symbol: number): void {
    let start = 0;
    for (let i = 0; i < symbol; i++) start += this.#counts[i]!;
    encoder.encode(start, this.#counts[symbol]!, this.#total);
    this.#learn(symbol);
  }

  decode(decoder: RangeDecoder): number {
    const place = decoder.peek(this.#total);
    let symbol = 0;
    let start = 0;
    while (start + this.#counts[symbol]! <= place) start += this.#counts[symbol++]!;
    decoder.take(start, this.#counts[symbol]!, this.#total);
    this.#learn(symbol);
    return symbol;
  }

  #learn(symbol: number): void {
    this.#counts[symbol] = this.#counts[symbol]! + INCREMENT;
    this.#total += INCREMENT;
    if (this.#total <= MAX_TOTAL) return;
    this.#total = 0;
    for (let i = 0; i < this.#counts.length; i++) {
      this.#counts[i] = (this.#counts[i]! + 1) >>> 1;
      this.#total += this.#counts[i]!;
    }
  }
}

/** A whole number from 0 to 2^53 − 1: the number of its bits is learnt, the bits below the first are written as they are. */
export class NumberModel {
  readonly #length = new SymbolModel(54);

  encode(encoder: RangeEncoder, value: number): void {
    const length = value === 0 ? 0 : Math.floor(Math.log2(value)) + 1;
    // log2 rounds up just below a large power of two.
    const exact = length > 0 && value < 2 ** (length - 1) ? length - 1 : length;
    this.#length.encode(encoder, exact);
    if (exact > 1) encoder.encodeBits(value - 2 ** (exact - 1), exact - 1);
  }

  decode(decoder: RangeDecoder): number {
    const length = this.#length.decode(decoder);
    return length < 2 ? length : 2 ** (length - 1) + decoder.decodeBits(length - 1);
  }
}
