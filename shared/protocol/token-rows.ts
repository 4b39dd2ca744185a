/**
 * Rows of token ids ⇄ bytes, for the messages of an evaluation: for each row its number of tokens, then its tokens, each a u32 of little endian.
 * One value of msgpack in place of one for each token. Pure.
 */
import { TrainerError } from '../errors.ts';

const WIDTH = 4;

export function encodeTokenRows(rows: readonly (readonly number[])[]): Uint8Array<ArrayBuffer> {
  const numNumbers = rows.reduce((sum, { length }) => sum + 1 + length, 0);
  const bytes = Buffer.alloc(WIDTH * numNumbers);
  let at = 0;
  for (const row of rows)
    for (const number of [row.length, ...row]) {
      bytes.writeUInt32LE(number, at);
      at += WIDTH;
    }
  return bytes;
}

/** @throws MESSAGE_INVALID for bytes that end inside a row */
export function decodeTokenRows(encoded: Uint8Array): number[][] {
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.byteLength);
  const rows: number[][] = [];
  for (let at = 0; at < bytes.length;) {
    const length = at + WIDTH <= bytes.length ? bytes.readUInt32LE(at) : Infinity;
    const start = at + WIDTH;
    at = start + WIDTH * length;
    if (at > bytes.length)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `expected rows of tokens, the ${bytes.length} B end inside row ${rows.length}`,
      );
    rows.push(Array.from({ length }, (_, token) => bytes.readUInt32LE(start + WIDTH * token)));
  }
  return rows;
}
