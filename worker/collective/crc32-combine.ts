/**
 * CRC-32 of two strings put together, from the CRC-32 of each: a checksum of the whole gradient then costs nothing more than
 * the checksums its frames have anyway. Arithmetic in GF(2)[x] modulo the CRC polynomial, bits reflected
 * (Mark Adler, zlib 1.2.12, crc32_combine): crc(A·B) = crc(A)·x^(8|B|) + crc(B).
 */

const POLYNOMIAL = 0xedb88320;
/** x^0, reflected. */
const ONE = 0x80000000;

function multiply(a: number, b: number): number {
  let product = 0;
  let factor = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= factor;
    factor = (factor & 1) !== 0 ? (factor >>> 1) ^ POLYNOMIAL : factor >>> 1;
  }
  return product >>> 0;
}

/** powers[n] = x^(2^n) */
const powers = [ONE >>> 1];
for (let n = 1; n < 64; n++) powers.push(multiply(powers[n - 1]!, powers[n - 1]!));

/** x^(8·numBytes) */
function shift(numBytes: number): number {
  let product = ONE;
  let rest = numBytes;
  for (let n = 3; rest > 0; n++) {
    if (rest % 2 === 1) product = multiply(powers[n]!, product);
    rest = Math.floor(rest / 2);
  }
  return product;
}

/** @param numBytesB length of the second string, below 2^53 */
export function combineCrc32(crcA: number, crcB: number, numBytesB: number): number {
  return (multiply(shift(numBytesB), crcA) ^ crcB) >>> 0;
}
