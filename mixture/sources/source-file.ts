/** A file of a source, on disk, on a server or in a bucket. Its errors name the file and become SOURCE_UNREADABLE. */
import { createHash } from 'node:crypto';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { LocalStorage } from '../../shared/storage/local-storage.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import type { Storage } from '../../shared/storage/storage.ts';
import { cachedPath, ensureCached, isCached, openHubFile } from './hub/hub-cache.ts';
import type { ResolvedFile, ResolvedSource } from './resolved-source.ts';
import type { SourceAccess } from './source-access.ts';
import type { UnitOptions } from './source-record.ts';

const SHA256 = 'sha256:';

export interface ByteRange {
  readonly from?: number;
  readonly to?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface SourceFileBytes {
  /** The file's name as in the mixture. */
  readonly name: string;
  readonly bytes: number;
  /** Exactly these bytes. @throws SOURCE_UNREADABLE, ABORTED */
  readRange(from: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** A range. If it is the whole file, its hash is checked, if known. @throws SOURCE_UNREADABLE, ABORTED */
  stream(range?: ByteRange): AsyncIterable<Uint8Array>;
}

/**
 * Opens a file to read all or most of it. A file of a hub is first downloaded to the cache.
 * @param onAlive called repeatedly during the download
 * @throws SOURCE_UNREADABLE, DISK_FULL, ABORTED
 */
export async function openSourceFile(
  source: ResolvedSource,
  file: ResolvedFile,
  access: SourceAccess,
  signal?: AbortSignal,
  onAlive?: () => void,
): Promise<SourceFileBytes> {
  if (source.origin === undefined) return bytesOf(file, openStorage(file.location, access.storage));
  try {
    return bytesOf(file, new LocalStorage(await ensureCached(file, access, signal, onAlive)));
  } catch (error) {
    throw unreadable(file.name, error);
  }
}

/** Opens a file to read a small part, such as a footer. Nothing else is downloaded. */
export async function peekSourceFile(
  source: ResolvedSource,
  file: ResolvedFile,
  access: SourceAccess,
): Promise<SourceFileBytes> {
  if (source.origin === undefined) return bytesOf(file, openStorage(file.location, access.storage));
  const storage = (await isCached(file, access))
    ? new LocalStorage(cachedPath(file, access))
    : openHubFile(file.location, access);
  return bytesOf(file, storage);
}

function bytesOf({ name, bytes, version, storageVersion }: ResolvedFile, storage: Storage): SourceFileBytes {
  return {
    name,
    bytes,
    async readRange(from, length, signal) {
      try {
        return await storage.readRange('', from, length, signal, storageVersion);
      } catch (error) {
        throw unreadable(name, error);
      }
    },
    async *stream({ from = 0, to = bytes, signal } = {}) {
      const isWhole = from === 0 && to === bytes && version.startsWith(SHA256);
      const hash = isWhole ? createHash('sha256') : undefined;
      try {
        for await (const chunk of storage.stream('', { from, to, version: storageVersion, signal })) {
          hash?.update(chunk);
          yield chunk;
        }
      } catch (error) {
        throw unreadable(name, error);
      }
      const found = hash?.digest('hex');
      if (found !== undefined && `${SHA256}${found}` !== version)
        throw new TrainerError(
          'SOURCE_UNREADABLE',
          `source file ${name} changed while it was read: expected ${version}, found ${SHA256}${found}; start again when the file is complete`,
        );
    },
  };
}

/** Whether the name promises compressed bytes. The bytes themselves decide (identify-content.ts). */
export function hasCompressedName({ name }: { readonly name: string }): boolean {
  return /\.(?:gz|gzip|zst|zstd)$/iu.test(name);
}

/** All bytes of a file as it is stored. @throws SOURCE_UNREADABLE, ABORTED */
export function streamBytes(
  file: SourceFileBytes,
  { signal, onBytes }: Pick<UnitOptions, 'signal' | 'onBytes'>,
): AsyncGenerator<Uint8Array> {
  return tap(file.stream({ signal }), onBytes);
}

async function* tap(
  chunks: AsyncIterable<Uint8Array>,
  onBytes: (numBytes: number) => void,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    onBytes(chunk.length);
    yield chunk;
  }
}

/** These codes keep their meaning: the file need not be repaired. */
const KEPT = new Set([
  'ABORTED',
  'SOURCE_UNREADABLE',
  'CONFIG_INVALID',
  'DISK_FULL',
  'STORAGE_DENIED',
  'STORAGE_UNAVAILABLE',
]);

/** An error about a file, with its name. */
export function unreadable(name: string, thrown: unknown): TrainerError {
  const error = toTrainerError(thrown);
  if (KEPT.has(error.code)) return error;
  return new TrainerError('SOURCE_UNREADABLE', `source file ${name} cannot be read: ${error.message}`, {
    retryable: error.retryable,
    cause: error,
  });
}
