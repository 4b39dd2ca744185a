/**
 * The checksum of payloads and of the whole gradient: about eight times as fast as CRC-32 here, and combinable.
 *
 * Definition. Data is a sequence of 64-byte lines of 16 little-endian uint32 columns. The state holds, per column over the lines
 * in order: sum ← sum + x and weighted ← weighted + sum modulo 2^32. A line folded to four words, f[j] = x[j] ⊕ x[j+4] ⊕ x[j+8] ⊕
 * x[j+12], gives four remainders: remainder ← remainder·X + f in GF(2)[X] modulo the primitive polynomial of CRC-32 (0x104c11db7).
 * The checksum is the CRC-32 of the state's 144 bytes (sums, weighted, remainders). For A followed by B of n lines:
 * sum = sA + sB, weighted = wA + n·sA + wB, remainder = rA·X^n + rB.
 *
 * Every change confined to one line, and every pair of flipped bits, changes the state. One line changes a column's sum. Two flips keep the
 * sums only at the same bit of one column, hence of one folded word, and then X^i ≠ X^j keeps the remainders apart. Of the changes that
 * change the state, its CRC-32 misses one in 2^32. It guards against damage, not against forgery: the run's token does that.
 */
import { crc32 } from 'node:zlib';

const LINE_BYTES = 64;
const COLUMNS = 16;
const REMAINDERS = 4;
const STATE_WORDS = 2 * COLUMNS + REMAINDERS;
const POLYNOMIAL = 0x04c11db7;
/** Bytes of the state. */
export const CHECKSUM_STATE_BYTES = STATE_WORDS * 4;

/** [36]: sums, weighted, remainders; `Arena.checksum` returns it. */
export type ChecksumState = Uint32Array<ArrayBuffer>;

/** The state of no lines. */
export function emptyChecksum(): ChecksumState {
  return new Uint32Array(STATE_WORDS);
}

/** The state of A followed by B. @param numBytesB a multiple of LINE_BYTES */
export function combineChecksums(a: ChecksumState, b: ChecksumState, numBytesB: number): ChecksumState {
  const numLines = numBytesB / LINE_BYTES;
  const power = powerOfX(numLines);
  const state = emptyChecksum();
  for (let i = 0; i < COLUMNS; i++) {
    const weighted = i + COLUMNS;
    state[i] = a[i]! + b[i]!;
    state[weighted] = a[weighted]! + Math.imul(a[i]!, numLines) + b[weighted]!;
  }
  for (let i = 2 * COLUMNS; i < STATE_WORDS; i++) state[i] = multiply(a[i]!, power) ^ b[i]!;
  return state;
}

/** uint32 */
export function finishChecksum(state: ChecksumState): number {
  return crc32(new Uint8Array(state.buffer));
}

/** Product in GF(2)[X] modulo the polynomial; bit i is the coefficient of X^i. */
function multiply(a: number, b: number): number {
  let product = 0;
  for (let bit = 31; bit >= 0; bit--) {
    product = (product << 1) ^ (product >> 31 === 0 ? 0 : POLYNOMIAL);
    if (((b >>> bit) & 1) === 1) product ^= a;
  }
  return product;
}

/** X^exponent, by squaring. */
function powerOfX(exponent: number): number {
  let power = 1;
  let square = 2;
  for (let rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) power = multiply(power, square);
    square = multiply(square, square);
  }
  return power;
}
