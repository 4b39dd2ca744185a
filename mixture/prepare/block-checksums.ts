/**
 * Checksums of a token file in blocks, so that a reader can tell a damaged byte from a good one without reading the whole file.
 *
 * | file | content |
 * |---|---|
 * | `shard-00000.crc` | per block of BLOCK_BYTES of `shard-00000.tokens`, the last one as long as what is left: its CRC-32 (zlib), uint32 little-endian |
 *
 * The manifest holds the SHA-256 of this file, so the hash tree reaches from mixture.json down to each block. A CRC-32 finds every
 * burst of up to 32 bits, and misses other damage once in 2^32; it is no protection against forgery.
 */
import { crc32 } from 'node:zlib';
import { assertInvariant } from '../../shared/errors.ts';

/** A reader reads and checks whole blocks. Part of the format. */
export const BLOCK_BYTES = 16 * 1024;

export function numBlocks(fileBytes: number): number {
  return Math.ceil(fileBytes / BLOCK_BYTES);
}

/** Checksums of the blocks of a file that is written piece by piece. */
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

  /** The bytes of the checksum file; nothing is to be added any more. */
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
 * Whether a block is as it was written.
 * @param checksums of the file, as `finish` made them, or a copy of those bytes
 * @throws INTERNAL for a block that the file does not have
 */
export function isBlockWhole(checksums: Uint8Array, block: number, bytes: Uint8Array): boolean {
  assertInvariant(block >= 0 && 4 * block + 4 <= checksums.length, `there is no checksum of block ${block}`);
  const view = new DataView(checksums.buffer, checksums.byteOffset, checksums.byteLength);
  return view.getUint32(4 * block, true) === crc32(bytes);
}
