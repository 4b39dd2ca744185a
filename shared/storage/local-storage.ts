/** Storage in a folder, or one file of it. The version of a file is its inode, size and time of change. */
import { createReadStream, type BigIntStats } from 'node:fs';
import { mkdir, open, readdir, realpath, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import { READ_ONLY, replaceFile, systemCode, toStorageError } from '../atomic-file.ts';
import { throwIfAborted } from '../abort.ts';
import { toTrainerError, TrainerError } from '../errors.ts';
import { changed, truncated } from './storage-errors.ts';
import { compareKeys, type ListedObject, type ObjectFacts, type Storage, type StreamOptions } from './storage.ts';

const CHUNK_BYTES = 256 * 1024;

export class LocalStorage implements Storage {
  readonly location: string;

  /** @param path absolute path of a folder or a file */
  constructor(path: string) {
    this.location = path;
  }

  placeOf(key: string): string {
    return join(this.location, key);
  }

  async head(key: string, signal?: AbortSignal): Promise<ObjectFacts> {
    const path = this.placeOf(key);
    throwIfAborted(signal, `looking at ${path}`);
    try {
      return factsOf(path, await stat(path, { bigint: true }));
    } catch (error) {
      throw toLocalError(error, 'read', path);
    }
  }

  async readRange(
    key: string,
    from: number,
    length: number,
    signal?: AbortSignal,
    version?: string,
  ): Promise<Uint8Array> {
    const path = this.placeOf(key);
    throwIfAborted(signal, `reading ${path}`);
    const file = await openForReading(path, version);
    try {
      const bytes = new Uint8Array(length);
      let at = 0;
      while (at < length) {
        const { bytesRead } = await file.read(bytes, at, length - at, from + at);
        if (bytesRead === 0) throw truncated(path, from + length, from + at);
        at += bytesRead;
      }
      await checkVersion(file, path, version);
      return bytes;
    } catch (error) {
      throw toLocalError(error, 'read', path);
    } finally {
      await file.close();
    }
  }

  async *stream(key: string, { from = 0, to, version, signal }: StreamOptions = {}): AsyncGenerator<Uint8Array> {
    const path = this.placeOf(key);
    throwIfAborted(signal, `reading ${path}`);
    const file = await openForReading(path, version);
    try {
      if (to === undefined || to > from) {
        const chunks: AsyncIterable<Uint8Array> = createReadStream(path, {
          fd: file,
          autoClose: false,
          start: from,
          end: to === undefined ? undefined : to - 1,
          highWaterMark: CHUNK_BYTES,
          signal,
        });
        let at = from;
        for await (const chunk of chunks) {
          at += chunk.length;
          yield chunk;
        }
        if (to !== undefined && at < to) throw truncated(path, to, at);
      }
      await checkVersion(file, path, version);
    } catch (error) {
      throw toLocalError(error, 'read', path);
    } finally {
      await file.close();
    }
  }

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<ListedObject> {
    for (const key of await this.#keysWith(prefix, signal)) yield { key, ...(await this.head(key, signal)) };
  }

  async put(key: string, body: Uint8Array, signal?: AbortSignal): Promise<void> {
    const path = this.placeOf(key);
    throwIfAborted(signal, `writing ${path}`);
    await mkdir(dirname(path), { recursive: true }).catch((error: unknown) => {
      throw toStorageError(error, 'create', dirname(path));
    });
    await replaceFile(path, body);
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    const path = this.placeOf(key);
    throwIfAborted(signal, `removing ${path}`);
    await rm(path, { force: true }).catch((error: unknown) => {
      throw toStorageError(error, 'remove', path);
    });
  }

  /**
   * Keys that start with `prefix`, in order; none if the folder does not exist. Folders and links that cannot contain such a key are not
   * read: the location may have unrelated entries.
   */
  async #keysWith(prefix: string, signal: AbortSignal | undefined): Promise<string[]> {
    const keys: string[] = [];
    const folder = join(this.location, prefix.includes('/') ? dirname(`${prefix}x`) : '');
    const pending = [folder];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      throwIfAborted(signal, `listing ${folder}`);
      try {
        for (const entry of await readdir(next, { withFileTypes: true })) {
          const path = join(next, entry.name);
          const key = relative(this.location, path).replaceAll(sep, '/');
          const isMeant = key.startsWith(prefix);
          if (!isMeant && !prefix.startsWith(`${key}/`)) continue;
          const kind = entry.isSymbolicLink() ? await kindOfLink(path) : entry;
          if (kind.isDirectory()) pending.push(path);
          else if (kind.isFile() && isMeant) keys.push(key);
        }
      } catch (error) {
        if (systemCode(error) !== 'ENOENT') throw toLocalError(error, 'list', next);
      }
    }
    return keys.sort(compareKeys);
  }
}

const NEITHER = { isFile: () => false, isDirectory: () => false };

/** The target of a link. A link to nothing, or to a folder that contains it, is ignored. */
async function kindOfLink(path: string): Promise<typeof NEITHER> {
  try {
    const target = await realpath(path);
    const folder = await realpath(dirname(path));
    return folder === target || folder.startsWith(target + sep) ? NEITHER : await stat(target);
  } catch (error) {
    if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ELOOP') return NEITHER;
    throw error;
  }
}

async function openForReading(path: string, version: string | undefined): Promise<FileHandle> {
  try {
    const file = await open(path, READ_ONLY);
    await checkVersion(file, path, version).catch(async (error: unknown) => {
      await file.close();
      throw error;
    });
    return file;
  } catch (error) {
    throw toLocalError(error, 'read', path);
  }
}

async function checkVersion(file: FileHandle, path: string, version: string | undefined): Promise<void> {
  const found = factsOf(path, await file.stat({ bigint: true }));
  if (version !== undefined && found.version !== version) throw changed(path, version, found.version);
}

function factsOf(path: string, stats: BigIntStats): ObjectFacts {
  if (!stats.isFile()) throw new TrainerError('STORAGE_NOT_FOUND', `${path} is not a file; give the path of one`);
  return { bytes: Number(stats.size), version: `stat:${stats.ino}-${stats.size}-${stats.mtimeNs}` };
}

function toLocalError(error: unknown, action: string, path: string): TrainerError {
  if (error instanceof Error && error.name === 'AbortError') return toTrainerError(error);
  const code = systemCode(error);
  if (code === 'ENOENT' || code === 'ENOTDIR')
    return new TrainerError('STORAGE_NOT_FOUND', `${path} is not there (${code})`, { cause: error });
  if (code === 'EACCES' || code === 'EPERM')
    return new TrainerError(
      'STORAGE_DENIED',
      `${path} must not be ${action === 'list' ? 'listed' : 'read'} (${code})`,
      {
        cause: error,
      },
    );
  return toStorageError(error, action, path);
}
