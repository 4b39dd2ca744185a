/**
 * A prepared mixture in remote storage. Files with a known hash are copied to local disk; blocks of tokens are read by
 * range. Each file is pinned to the version of its first read; if it changes, reading fails (STORAGE_CHANGED).
 *
 * Assumption: a file in the cache folder is named by its SHA-256 and verified at each read, so it may be deleted at any
 * time.
 */
import { systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { readSmallFile } from '../../shared/small-file.ts';
import { LocalStorage } from '../../shared/storage/local-storage.ts';
import type { ObjectFacts, Storage } from '../../shared/storage/storage.ts';
import { MAX_MANIFEST_BYTES } from '../prepare/manifest.ts';
import { sha256Of } from '../prepare/prepared-format.ts';
import { corrupt, noMixture, ReadSlots, type KnownFile, type PreparedFiles } from './prepared-files.ts';
import type { SourceWatch } from './source-watch.ts';

/** Number of requests at the same time. */
const MAX_REMOTE_READS = 32;

export interface RemoteFilesInit {
  readonly storage: Storage;
  readonly watch: SourceWatch;
  /** Created when needed. */
  readonly cacheFolder: string;
}

export class RemoteFiles implements PreparedFiles {
  readonly #init: RemoteFilesInit;
  readonly #cache: LocalStorage;
  readonly #slots = new ReadSlots(MAX_REMOTE_READS);
  readonly #end = new AbortController();
  /** Facts of the first look at each key. One entry for each shard of the mixture. */
  readonly #facts = new Map<string, Promise<ObjectFacts>>();

  constructor(init: RemoteFilesInit) {
    this.#init = init;
    this.#cache = new LocalStorage(init.cacheFolder);
  }

  get location(): string {
    return this.#init.storage.location;
  }

  placeOf(key: string): string {
    return this.#init.storage.placeOf(key);
  }

  async readUnknown(key: string, signal?: AbortSignal): Promise<Uint8Array> {
    const place = this.placeOf(key);
    try {
      return await this.#read(place, (stop) => this.#readWhole(key, stop), signal);
    } catch (error) {
      throw toTrainerError(error).code === 'STORAGE_NOT_FOUND' ? noMixture(place, error) : error;
    }
  }

  async readKnown(file: KnownFile, signal?: AbortSignal): Promise<Uint8Array> {
    const key = `${file.sha256.slice(0, 2)}/${file.sha256}`;
    const path = this.#cache.placeOf(key);
    return this.#slots.run(async () => {
      const cached = await readSmallFile(path, Math.max(file.bytes ?? 0, MAX_MANIFEST_BYTES)).catch(
        (error: unknown) => {
          if (systemCode(error) === 'ENOENT') return undefined;
          throw toStorageError(error, 'read', path);
        },
      );
      if (cached !== undefined && sha256Of(cached) === file.sha256) return cached;
      const content = await this.#fetch(file, signal);
      await this.#cache.put(key, content);
      return content;
    }, signal);
  }

  async checkSize(key: string, bytes: number, signal?: AbortSignal): Promise<void> {
    const found = await this.#factsOf(key, signal);
    if (found.bytes !== bytes) throw corrupt(this.placeOf(key), `${bytes} B`, `${found.bytes} B`);
  }

  async readRange(key: string, from: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    const { version } = await this.#factsOf(key, signal);
    const read = (stop: AbortSignal) => this.#init.storage.readRange(key, from, length, stop, version);
    return this.#read(this.placeOf(key), read, signal).catch((error: unknown) => {
      throw toShardError(error, this.placeOf(key));
    });
  }

  close(): void {
    this.#end.abort(new TrainerError('ABORTED', `${this.location} was closed`));
    this.#init.watch.close();
  }

  /** The whole file, verified. The caller already has a slot. */
  async #fetch({ key, bytes, sha256 }: KnownFile, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const place = this.placeOf(key);
    const content = await this.#watched(place, (stop) => this.#readWhole(key, stop, bytes), signal).catch(
      (error: unknown) => {
        throw toShardError(error, place);
      },
    );
    const found = sha256Of(content);
    if (found !== sha256) throw corrupt(place, `SHA-256 ${sha256}`, found);
    return content;
  }

  /** @param knownBytes the size, if known */
  async #readWhole(key: string, signal: AbortSignal, knownBytes?: number): Promise<Uint8Array> {
    const { storage } = this.#init;
    if (knownBytes !== undefined) return storage.readRange(key, 0, knownBytes, signal);
    const { bytes, version } = await storage.head(key, signal);
    if (bytes > MAX_MANIFEST_BYTES) throw corrupt(this.placeOf(key), `at most ${MAX_MANIFEST_BYTES} B`, `${bytes} B`);
    return storage.readRange(key, 0, bytes, signal, version);
  }

  #factsOf(key: string, signal: AbortSignal | undefined): Promise<ObjectFacts> {
    let facts = this.#facts.get(key);
    if (facts === undefined) {
      const place = this.placeOf(key);
      facts = this.#read(place, (stop) => this.#init.storage.head(key, stop), signal).catch((error: unknown) => {
        this.#facts.delete(key);
        throw toShardError(error, place);
      });
      this.#facts.set(key, facts);
    }
    return facts;
  }

  #read<T>(place: string, read: (stop: AbortSignal) => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    return this.#slots.run(() => this.#watched(place, read, signal), signal);
  }

  async #watched<T>(
    place: string,
    read: (stop: AbortSignal) => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const watched = this.#init.watch.begin(place);
    try {
      return await read(signal === undefined ? this.#end.signal : AbortSignal.any([signal, this.#end.signal]));
    } finally {
      this.#init.watch.end(watched);
    }
  }
}

/** A missing shard, or one shorter than its manifest says, is damaged. Other errors stay. */
function toShardError(thrown: unknown, place: string): TrainerError {
  const error = toTrainerError(thrown);
  if (error.code === 'STORAGE_NOT_FOUND') return corrupt(place, 'the file', 'none', error);
  if (error.code === 'STORAGE_TRUNCATED') return corrupt(place, 'a longer file', error.message, error);
  return error;
}
