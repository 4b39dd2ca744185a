/**
 * A prepared mixture in a folder: reads whole files and ranges, with a bounded number of open files.
 *
 * Ranges are read synchronously, in the feed's own thread. From the page cache such a read takes a few microseconds;
 * passing it to a thread pool costs ten times as much.
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { access, constants, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { READ_ONLY, systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { readSmallFile } from '../../shared/small-file.ts';
import { MAX_MANIFEST_BYTES } from '../prepare/manifest.ts';
import { sha256Of } from '../prepare/prepared-format.ts';
import { corrupt, noMixture, ReadSlots, type KnownFile, type PreparedFiles } from './prepared-files.ts';

/** Far below the usual limit of 1,024 descriptors per process, together with files that are read whole. */
const MAX_OPEN_FILES = 128;
/** Files that are read whole or inspected at the same time. */
const MAX_WHOLE_READS = 16;

export class LocalFiles implements PreparedFiles {
  readonly location: string;
  /** Path → descriptor, least recently used first. */
  readonly #open = new Map<string, number>();
  readonly #slots = new ReadSlots(MAX_WHOLE_READS);

  /** @param folder path of the folder */
  constructor(folder: string) {
    this.location = folder;
  }

  placeOf(key: string): string {
    return join(this.location, key);
  }

  readUnknown(key: string, signal?: AbortSignal): Promise<Uint8Array> {
    const path = this.placeOf(key);
    return this.#slots.run(async () => {
      try {
        return await readSmallFile(path, MAX_MANIFEST_BYTES);
      } catch (error) {
        if (systemCode(error) === 'ENOENT') throw noMixture(path, error);
        throw toStorageError(error, 'read', path);
      }
    }, signal);
  }

  readKnown({ key, bytes, sha256 }: KnownFile, signal?: AbortSignal): Promise<Uint8Array> {
    const path = this.placeOf(key);
    return this.#slots.run(async () => {
      const content = await readSmallFile(path, Math.max(bytes ?? 0, MAX_MANIFEST_BYTES)).catch((error: unknown) => {
        throw toShardError(error, path);
      });
      if (bytes !== undefined && content.length !== bytes) throw corrupt(path, `${bytes} B`, `${content.length} B`);
      const found = sha256Of(content);
      if (found !== sha256) throw corrupt(path, `SHA-256 ${sha256}`, found);
      return content;
    }, signal);
  }

  checkSize(key: string, bytes: number, signal?: AbortSignal): Promise<void> {
    const path = this.placeOf(key);
    return this.#slots.run(async () => {
      const { size } = await stat(path).catch((error: unknown) => {
        throw toShardError(error, path);
      });
      if (size !== bytes) throw corrupt(path, `${bytes} B`, `${size} B`);
      await access(path, constants.R_OK).catch((error: unknown) => {
        throw toShardError(error, path);
      });
    }, signal);
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- synchronous inside, see above; a failure is still a rejection
  async readRange(key: string, from: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    const path = this.placeOf(key);
    throwIfAborted(signal, `reading ${path}`);
    const bytes = Buffer.allocUnsafeSlow(length);
    let got = 0;
    try {
      const file = this.#descriptor(path);
      while (got < length) {
        const count = readSync(file, bytes, got, length - got, from + got);
        if (count === 0) break;
        got += count;
      }
    } catch (error) {
      throw toShardError(error, path);
    }
    if (got < length) throw corrupt(path, `${length} B at ${from}`, `${got} B`);
    return bytes;
  }

  close(): void {
    for (const file of this.#open.values()) closeSync(file);
    this.#open.clear();
  }

  #descriptor(path: string): number {
    let file = this.#open.get(path);
    if (file === undefined) {
      file = openSync(path, READ_ONLY);
      const [oldest] = this.#open.size >= MAX_OPEN_FILES ? this.#open : [];
      if (oldest !== undefined) {
        this.#open.delete(oldest[0]);
        closeSync(oldest[1]);
      }
    } else {
      this.#open.delete(path);
    }
    this.#open.set(path, file);
    return file;
  }
}

function toShardError(error: unknown, path: string): Error {
  return systemCode(error) === 'ENOENT'
    ? corrupt(path, 'the file', 'none', error)
    : toStorageError(error, 'read', path);
}
