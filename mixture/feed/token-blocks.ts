/**
 * Token files in verified blocks: no byte leaves here that does not have its checksum, and nothing is hashed up front.
 *
 * A file's checksums (mixture/prepare/block-checksums.ts) are read when the file is first needed and verified by their hash in the
 * manifest. Blocks and checksums that were used last stay in memory, each within its bound; two reads of one block are one.
 */
import { throwIfAborted } from '../../shared/abort.ts';
import { BLOCK_BYTES, isBlockWhole, numBlocks } from '../prepare/block-checksums.ts';
import { BoundedCache } from './bounded-cache.ts';
import { corrupt, type KnownFile, type PreparedFiles } from './prepared-files.ts';

/** Blocks kept, bytes: a local file is cached by the system as well, a remote one is not. */
const BLOCK_CACHE_BYTES = 32 * 1024 * 1024;
/** Checksums kept, bytes: those of 256 GiB of tokens. */
const CHECKSUM_CACHE_BYTES = 64 * 1024 * 1024;

export interface TokenFile {
  readonly key: string;
  readonly bytes: number;
  readonly checksums: KnownFile & { readonly bytes: number };
}

export class TokenBlocks {
  readonly #files: PreparedFiles;
  readonly #blocks = new BoundedCache(BLOCK_CACHE_BYTES);
  readonly #checksums = new BoundedCache(CHECKSUM_CACHE_BYTES);
  /** Being read, by cache key; bounded by the reads that wait for them. */
  readonly #underWay = new Map<string, Promise<Uint8Array>>();

  constructor(files: PreparedFiles) {
    this.#files = files;
  }

  /**
   * Bytes `from` … `from + length` of a file; not to be written to.
   * @throws SHARD_CORRUPT where a block does not have its checksum, and what PreparedFiles throws
   */
  async read(file: TokenFile, from: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    throwIfAborted(signal, `reading ${file.key}`);
    const first = Math.floor(from / BLOCK_BYTES);
    const last = Math.floor((from + length - 1) / BLOCK_BYTES);
    const start = from - first * BLOCK_BYTES;
    if (first === last) {
      const block = this.#blocks.get(blockKey(file, first)) ?? (await this.#block(file, first));
      return block.subarray(start, start + length);
    }
    const numbers = Array.from({ length: last - first + 1 }, (_, i) => first + i);
    const blocks = await Promise.all(numbers.map((number) => this.#block(file, number)));
    return Buffer.concat(blocks).subarray(start, start + length);
  }

  #block(file: TokenFile, number: number): Promise<Uint8Array> {
    return this.#once(blockKey(file, number), this.#blocks, async () => {
      const from = number * BLOCK_BYTES;
      const length = Math.min(BLOCK_BYTES, file.bytes - from);
      const checksums = await this.#checksumsOf(file);
      const block = await this.#files.readRange(file.key, from, length);
      if (!isBlockWhole(checksums, number, block))
        throw corrupt(
          this.#files.placeOf(file.key),
          `bytes ${from} to ${from + length} with the checksum they were written with`,
          'others',
        );
      return block;
    });
  }

  #checksumsOf({ key, bytes, checksums }: TokenFile): Promise<Uint8Array> {
    return this.#once(checksums.key, this.#checksums, async () => {
      const place = this.#files.placeOf(checksums.key);
      if (checksums.bytes !== 4 * numBlocks(bytes))
        throw corrupt(place, `${numBlocks(bytes)} checksums of ${key}`, `${checksums.bytes} B`);
      return this.#files.readKnown(checksums);
    });
  }

  /** What is kept, else what is being read, else what `read` brings. A failure is not kept. */
  #once(key: string, kept: BoundedCache, read: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const found = kept.get(key);
    if (found !== undefined) return Promise.resolve(found);
    let reading = this.#underWay.get(key);
    if (reading === undefined) {
      reading = read()
        .then((bytes) => {
          kept.set(key, bytes);
          return bytes;
        })
        .finally(() => this.#underWay.delete(key));
      this.#underWay.set(key, reading);
    }
    return reading;
  }
}

function blockKey({ key }: TokenFile, number: number): string {
  return `${key}#${number}`;
}
