/**
 * Checksums of the blocks of a token file. A reader can find a damaged byte without reading the whole file.
 *
 * | file | content |
 * |---|---|
 * | `shard-00000.crc` | for each block of BLOCK_BYTES of `shard-00000.tokens` (the last may be shorter): its CRC-32 (zlib), uint32 little-endian |
 *
 * The manifest holds the SHA-256 of this file, so the hash tree reaches from mixture.json to each block. A CRC-32 finds
 * every burst of up to 32 bits, and misses other damage once in 2^32. It does not protect against forgery.
 */
import { crc32 } from 'node:zlib';
import { assertInvariant } from '../../shared/errors.ts';

/** A reader reads and checks whole blocks. This size is part of the format. */
export const BLOCK_BYTES = 16 * 1024;

export function numBlocks(fileBytes: number): number {
  return Math.ceil(fileBytes / BLOCK_BYTES);
}

/** Computes the checksums of a file that is written in pieces. */
export class BlockChecksums {
  #sums = new Uint32Array(256);
  #numBlocks = 0;
  #crc = 0;
  #inBlock = 0;

  add(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + BLOCK_BYTES - this.#inBlock);
      this.#crc = crc32(part, this.#crc);
      this.#inBlock += part.length;
      at += part.length;
      if (this.#inBlock === BLOCK_BYTES) this.#endBlock();
    }
  }

  /** The bytes of the checksum file. Call it last. */
  finish(): Buffer {
    if (this.#inBlock > 0) this.#endBlock();
    const bytes = Buffer.alloc(4 * this.#numBlocks);
    for (let block = 0; block < this.#numBlocks; block++) bytes.writeUInt32LE(this.#sums[block]!, 4 * block);
    return bytes;
  }

  #endBlock(): void {
    if (this.#numBlocks === this.#sums.length) {
      const grown = new Uint32Array(2 * this.#sums.length);
      grown.set(this.#sums);
      this.#sums = grown;
    }
    this.#sums[this.#numBlocks++] = this.#crc;
    this.#crc = 0;
    this.#inBlock = 0;
  }
}

/**
 * Whether a block has its original bytes.
 * @param checksums of the file, from `finish`
 * @throws INTERNAL for a block that the file does not have
 */
export function isBlockWhole(checksums: Uint8Array, block: number, bytes: Uint8Array): boolean {
  assertInvariant(block >= 0 && 4 * block + 4 <= checksums.length, `there is no checksum of block ${block}`);
  const view = new DataView(checksums.buffer, checksums.byteOffset, checksums.byteLength);
  return view.getUint32(4 * block, true) === crc32(bytes);
}
