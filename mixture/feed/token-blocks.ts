/**
 * Reads token files in verified blocks: every returned byte has passed its checksum, and nothing is hashed in advance.
 *
 * The checksums of a file (mixture/prepare/block-checksums.ts) are read when the file is first needed, and verified by
 * their hash in the manifest. Recently used blocks and checksums stay in memory, each within a bound. Concurrent reads
 * of one block are one read.
 */
import { throwIfAborted } from '../../shared/abort.ts';
import { BLOCK_BYTES, isBlockWhole, numBlocks } from '../prepare/block-checksums.ts';
import { corrupt, type KnownFile, type PreparedFiles } from './prepared-files.ts';

/** Bytes of cached blocks. The system caches local files too, but not remote ones. */
const BLOCK_CACHE_BYTES = 32 * 1024 * 1024;
/** Bytes of cached checksums: enough for 256 GiB of tokens. */
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
  /** Running reads, by cache key. Bounded by the readers that wait for them. */
  readonly #running = new Map<string, Promise<Uint8Array>>();

  constructor(files: PreparedFiles) {
    this.#files = files;
  }

  /**
   * Bytes `from` … `from + length` of a file. The caller must not write to them.
   * @throws SHARD_CORRUPT if a block does not match its checksum, and what PreparedFiles throws
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

  /** The cached bytes, else those of a running read, else those that `read` returns. A failure is not cached. */
  #once(key: string, kept: BoundedCache, read: () => Promise<Uint8Array>): Promise<Uint8Array> {
    const found = kept.get(key);
    if (found !== undefined) return Promise.resolve(found);
    let reading = this.#running.get(key);
    if (reading === undefined) {
      reading = read()
        .then((bytes) => {
          kept.set(key, bytes);
          return bytes;
        })
        .finally(() => this.#running.delete(key));
      this.#running.set(key, reading);
    }
    return reading;
  }
}

function blockKey({ key }: TokenFile, number: number): string {
  return `${key}#${number}`;
}

/** Bytes by key, with a bound on their sum. The least recently used entries are dropped first. */
export class BoundedCache {
  readonly #maxBytes: number;
  /** Least recently used first. */
  readonly #entries = new Map<string, Uint8Array>();
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Sum over the entries, without the overhead of an entry. */
  get bytes(): number {
    return this.#bytes;
  }

  get(key: string): Uint8Array | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  /** Does not keep an entry that exceeds the bound alone. */
  set(key: string, entry: Uint8Array): void {
    this.#drop(key);
    this.#entries.set(key, entry);
    this.#bytes += entry.length;
    for (const oldest of this.#entries.keys()) {
      if (this.#bytes <= this.#maxBytes) return;
      this.#drop(oldest);
    }
  }

  #drop(key: string): void {
    this.#bytes -= this.#entries.get(key)?.length ?? 0;
    this.#entries.delete(key);
  }
}
