/** Writes zstd files for tests: frames of raw blocks (RFC 8878), which every decoder must read. */

const BLOCK_BYTES = 128 * 1024;

/** One frame for each part. */
export function writeZstd(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts.map(writeFrame));
}

/** Magic number, descriptor without size, window of 256 KiB, then raw blocks. */
function writeFrame(content: Uint8Array): Uint8Array {
  const blocks: Uint8Array[] = [Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x00, 8 << 3])];
  for (let at = 0; at === 0 || at < content.length; at += BLOCK_BYTES) {
    const block = content.subarray(at, at + BLOCK_BYTES);
    const isLast = at + BLOCK_BYTES >= content.length;
    const header = Buffer.alloc(3);
    header.writeUIntLE((block.length << 3) | Number(isLast), 0, 3);
    blocks.push(header, block);
  }
  return Buffer.concat(blocks);
}
