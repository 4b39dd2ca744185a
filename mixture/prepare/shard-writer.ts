/**
 * Writes the token shards of one unit, in order and in bounded memory.
 *
 * | file | content |
 * |---|---|
 * | `shard-00000.tokens` | ids of all its examples without gaps: uint16 if the vocabulary has at most 65,536 ids, else int32 |
 * | `shard-00000.index` | for each example two uint16: tokens of inputs, tokens of targets. Not written if all examples have the same lengths |
 * | `shard-00000.crc` | checksums of the blocks of the token file (block-checksums.ts) |
 *
 * Assumption: the machine is little-endian, as all machines that tfjs runs on.
 */
import { createHash, type Hash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { BlockChecksums } from './block-checksums.ts';
import type { ShardEntry } from './prepared-format.ts';

/** Bytes buffered before a write. */
const BUFFER_BYTES = 1 << 20;

type ShardFile = Pick<FileHandle, 'write' | 'sync' | 'close'>;

export interface ShardWriterInit {
  /** An empty folder. */
  readonly folder: string;
  readonly tokenBytes: 2 | 4;
  /** Largest size of a shard. An example is never split. */
  readonly shardBytes: number;
  readonly hasIndex: boolean;
  /** Opens a new file. Tests replace it. */
  readonly openFile?: (path: string) => Promise<ShardFile>;
}

export class ShardWriter {
  readonly #init: ShardWriterInit;
  readonly #shards: ShardEntry[] = [];
  #buffer = new Uint8Array(BUFFER_BYTES);
  /** The same memory, viewed as ids. */
  #ids: Uint16Array | Int32Array;
  #buffered = 0;
  #index = new Uint16Array(2048);
  #numExamples = 0;
  #shardBytes = 0;
  #checksums = new BlockChecksums();
  #file: HashedFile | undefined;

  constructor(init: ShardWriterInit) {
    this.#init = init;
    this.#ids = this.#viewIds();
  }

  /**
   * Adds an example. If it returns a promise, the caller must await it: the writer is writing.
   * @param tokens inputs followed by targets, each id below 2^(8 · tokenBytes)
   */
  add(tokens: Int32Array, inputsLength: number): Promise<void> | undefined {
    const numBytes = tokens.length * this.#init.tokenBytes;
    if (this.#shardBytes > 0 && this.#shardBytes + numBytes > this.#init.shardBytes)
      return this.#endShard().then(() => this.#addNow(tokens, inputsLength));
    return this.#addNow(tokens, inputsLength);
  }

  /** Writes the remaining examples. @returns the shards, in order @throws DISK_FULL, PATH_UNUSABLE */
  async finish(): Promise<readonly ShardEntry[]> {
    if (this.#numExamples > 0) await this.#endShard();
    return this.#shards;
  }

  /** Closes the open file after a failure. */
  async abandon(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  #addNow(tokens: Int32Array, inputsLength: number): Promise<void> | undefined {
    const { tokenBytes } = this.#init;
    const numBytes = tokens.length * tokenBytes;
    if (this.#buffered + numBytes > this.#buffer.length) {
      const grown = new Uint8Array(this.#buffered + numBytes + BUFFER_BYTES);
      grown.set(this.#buffer.subarray(0, this.#buffered));
      this.#buffer = grown;
      this.#ids = this.#viewIds();
    }
    const ids = this.#ids;
    const at = this.#buffered / tokenBytes;
    for (let i = 0; i < tokens.length; i++) ids[at + i] = tokens[i]!;
    this.#buffered += numBytes;
    this.#shardBytes += numBytes;
    if (2 * this.#numExamples + 2 > this.#index.length) {
      const grown = new Uint16Array(2 * this.#index.length);
      grown.set(this.#index);
      this.#index = grown;
    }
    this.#index[2 * this.#numExamples] = inputsLength;
    this.#index[2 * this.#numExamples + 1] = tokens.length - inputsLength;
    this.#numExamples += 1;
    return this.#buffered >= BUFFER_BYTES ? this.#writeBuffer() : undefined;
  }

  #viewIds(): Uint16Array | Int32Array {
    const { buffer } = this.#buffer;
    return this.#init.tokenBytes === 2 ? new Uint16Array(buffer) : new Int32Array(buffer, 0, buffer.byteLength >> 2);
  }

  async #writeBuffer(): Promise<void> {
    this.#file ??= await this.#open('tokens');
    const bytes = this.#buffer.subarray(0, this.#buffered);
    this.#checksums.add(bytes);
    await this.#file.write(bytes);
    this.#buffered = 0;
  }

  async #endShard(): Promise<void> {
    await this.#writeBuffer();
    const tokens = await this.#file!.end();
    this.#file = undefined;
    const checksums = await this.#writeWhole('crc', this.#checksums.finish());
    this.#checksums = new BlockChecksums();
    const index = this.#init.hasIndex
      ? await this.#writeWhole('index', new Uint8Array(this.#index.buffer, 0, 4 * this.#numExamples))
      : undefined;
    this.#file = undefined;
    this.#shards.push({ numExamples: this.#numExamples, tokens, checksums, ...(index === undefined ? {} : { index }) });
    this.#numExamples = 0;
    this.#shardBytes = 0;
  }

  async #writeWhole(kind: 'index' | 'crc', bytes: Uint8Array): Promise<ShardEntry['tokens']> {
    this.#file = await this.#open(kind);
    await this.#file.write(bytes);
    return this.#file.end();
  }

  async #open(kind: 'tokens' | 'index' | 'crc'): Promise<HashedFile> {
    const name = `shard-${String(this.#shards.length).padStart(5, '0')}.${kind}`;
    const path = join(this.#init.folder, name);
    const openFile = this.#init.openFile ?? ((newPath: string) => open(newPath, 'wx'));
    try {
      return new HashedFile(await openFile(path), name, path);
    } catch (error) {
      throw toStorageError(error, 'create', path);
    }
  }
}

/** A file that computes the digest of its content. */
class HashedFile {
  readonly #file: ShardFile;
  readonly #name: string;
  readonly #path: string;
  readonly #hash: Hash = createHash('sha256');
  #bytes = 0;

  constructor(file: ShardFile, name: string, path: string) {
    this.#file = file;
    this.#name = name;
    this.#path = path;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    this.#bytes += bytes.length;
    try {
      for (let at = 0; at < bytes.length;) at += (await this.#file.write(bytes, at)).bytesWritten;
    } catch (error) {
      throw toStorageError(error, 'write', this.#path);
    }
  }

  async end(): Promise<ShardEntry['tokens']> {
    try {
      await this.#file.sync();
      await this.#file.close();
    } catch (error) {
      throw toStorageError(error, 'write', this.#path);
    }
    return { file: this.#name, bytes: this.#bytes, sha256: this.#hash.digest('hex') };
  }

  async close(): Promise<void> {
    await this.#file.close().catch(() => undefined); // the file is discarded, and the first failure is already being reported
  }
}
