/**
 * Token shards of one task, written in order and in bounded memory.
 *
 * | file | content |
 * |---|---|
 * | `shard-00000.tokens` | ids of all its examples, one after the other, without gaps: uint16 where the vocabulary has at most 65,536 ids, else int32 |
 * | `shard-00000.index` | per example two uint16: tokens of inputs, tokens of targets. Not written where all examples have one length |
 *
 * Assumption: little-endian, as every machine that tfjs runs on.
 */
import { createHash, type Hash } from 'node:crypto';
import { open, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import type { ShardEntry } from './manifest.ts';

/** Bytes gathered before a write. */
const BUFFER_BYTES = 1 << 20;

type ShardFile = Pick<FileHandle, 'write' | 'sync' | 'close'>;

export interface ShardWriterInit {
  /** Exists and is empty. */
  readonly folder: string;
  readonly tokenBytes: 2 | 4;
  /** A shard ends before it would grow beyond this; one example is never divided. */
  readonly shardBytes: number;
  readonly hasIndex: boolean;
  /** Opens a new file; a fake in tests. */
  readonly openFile?: (path: string) => Promise<ShardFile>;
}

export class ShardWriter {
  readonly #init: ShardWriterInit;
  readonly #shards: ShardEntry[] = [];
  #buffer: Buffer;
  #buffered = 0;
  #index = new Uint16Array(2048);
  #numExamples = 0;
  #shardBytes = 0;
  #file: HashedFile | undefined;

  constructor(init: ShardWriterInit) {
    this.#init = init;
    this.#buffer = Buffer.allocUnsafe(BUFFER_BYTES);
  }

  /**
   * Adds one example. To be awaited where it gives a promise: it then writes.
   * @param tokens inputs followed by targets, each id below 2^(8 · tokenBytes)
   */
  add(tokens: Int32Array, inputsLength: number): Promise<void> | undefined {
    const numBytes = tokens.length * this.#init.tokenBytes;
    if (this.#shardBytes > 0 && this.#shardBytes + numBytes > this.#init.shardBytes)
      return this.#endShard().then(() => this.#addNow(tokens, inputsLength));
    return this.#addNow(tokens, inputsLength);
  }

  /** Writes what is left. @returns the shards, in order @throws DISK_FULL, PATH_UNUSABLE */
  async finish(): Promise<readonly ShardEntry[]> {
    if (this.#numExamples > 0) await this.#endShard();
    return this.#shards;
  }

  /** Closes the open file, after a failure. */
  async abandon(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  #addNow(tokens: Int32Array, inputsLength: number): Promise<void> | undefined {
    const { tokenBytes } = this.#init;
    const numBytes = tokens.length * tokenBytes;
    if (this.#buffered + numBytes > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(this.#buffered + numBytes + BUFFER_BYTES);
      this.#buffer.copy(grown, 0, 0, this.#buffered);
      this.#buffer = grown;
    }
    let at = this.#buffered;
    for (const token of tokens)
      at = tokenBytes === 2 ? this.#buffer.writeUInt16LE(token, at) : this.#buffer.writeInt32LE(token, at);
    this.#buffered = at;
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

  async #writeBuffer(): Promise<void> {
    this.#file ??= await this.#open('tokens');
    await this.#file.write(this.#buffer.subarray(0, this.#buffered));
    this.#buffered = 0;
  }

  async #endShard(): Promise<void> {
    await this.#writeBuffer();
    const tokens = await this.#file!.end();
    let index: ShardEntry['index'];
    if (this.#init.hasIndex) {
      this.#file = await this.#open('index');
      await this.#file.write(Buffer.from(this.#index.buffer, 0, 4 * this.#numExamples));
      index = await this.#file.end();
    }
    this.#file = undefined;
    this.#shards.push({ numExamples: this.#numExamples, tokens, ...(index === undefined ? {} : { index }) });
    this.#numExamples = 0;
    this.#shardBytes = 0;
  }

  async #open(kind: 'tokens' | 'index'): Promise<HashedFile> {
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

/** A file that knows the digest of what was written to it. */
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

  async write(bytes: Buffer): Promise<void> {
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
    await this.#file.close().catch(() => undefined); // a file that is thrown away: the first failure is the one to tell
  }
}
