/**
 * The files of a prepared mixture, wherever they lie: what reading it needs of a local folder or of remote storage.
 *
 * A *key* is the name of a file below the mixture's location, with `/`. Names, sizes and hashes come from the manifests, so every
 * file but mixture.json is known before it is read.
 */
import { TrainerError } from '../../shared/errors.ts';

/** A file as a manifest names it. */
export interface KnownFile {
  readonly key: string;
  /** Missing where the manifest does not say it. */
  readonly bytes?: number;
  readonly sha256: string;
}

/** All methods throw PATH_UNUSABLE or the codes of shared/storage, and ABORTED. */
export interface PreparedFiles {
  /** For messages. */
  readonly location: string;
  /** A file's full place, for messages. */
  placeOf(key: string): string;
  /** A small file of unknown content. @throws PATH_UNUSABLE where it is not there */
  readUnknown(key: string, signal?: AbortSignal): Promise<Uint8Array>;
  /** A whole file, verified. @throws SHARD_CORRUPT where it is missing or has other bytes */
  readKnown(file: KnownFile, signal?: AbortSignal): Promise<Uint8Array>;
  /** Looks at a file without reading it. @throws SHARD_CORRUPT where it is missing or of another size */
  checkSize(key: string, bytes: number, signal?: AbortSignal): Promise<void>;
  /**
   * `length` bytes from byte `from`, not verified; the caller's own.
   * @throws SHARD_CORRUPT where the file is missing or ends before, STORAGE_CHANGED
   */
  readRange(key: string, from: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  close(): void;
}

/** A file of a prepared mixture that is not as its manifest says. */
export function corrupt(where: string, expected: string, found: string, cause?: unknown): TrainerError {
  return new TrainerError(
    'SHARD_CORRUPT',
    `${where}: expected ${expected}, found ${found}; run "exmix prepare" again: only what is damaged is made again`,
    { cause },
  );
}

/** mixture.json is not there. */
export function noMixture(where: string, cause: unknown): TrainerError {
  return new TrainerError('PATH_UNUSABLE', `${where}: expected a prepared mixture, found none; run "exmix prepare"`, {
    cause,
  });
}
