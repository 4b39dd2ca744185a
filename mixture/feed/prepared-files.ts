/**
 * The files of a prepared mixture: the interface that a local folder and remote storage implement, and their common
 * parts.
 *
 * Definition: a *key* is the name of a file below the location of the mixture, with `/`. Manifests give names, sizes
 * and hashes, so every file except mixture.json is known before it is read.
 */
import { throwIfAborted } from '../../shared/abort.ts';
import { TrainerError } from '../../shared/errors.ts';

/** A file as a manifest names it. */
export interface KnownFile {
  readonly key: string;
  /** Missing if the manifest does not give the size. */
  readonly bytes?: number;
  readonly sha256: string;
}

/** All methods throw PATH_UNUSABLE or the codes of shared/storage, and ABORTED. */
export interface PreparedFiles {
  /** For messages. */
  readonly location: string;
  /** The full location of a file, for messages. */
  placeOf(key: string): string;
  /** A small file of unknown content. @throws PATH_UNUSABLE if it does not exist */
  readUnknown(key: string, signal?: AbortSignal): Promise<Uint8Array>;
  /** A whole file, verified. @throws SHARD_CORRUPT if it is missing or has other bytes */
  readKnown(file: KnownFile, signal?: AbortSignal): Promise<Uint8Array>;
  /** Checks the size of a file. @throws SHARD_CORRUPT if it is missing or has another size */
  checkSize(key: string, bytes: number, signal?: AbortSignal): Promise<void>;
  /**
   * `length` bytes from byte `from`, not verified. The caller owns them.
   * @throws SHARD_CORRUPT if the file is missing or too short, STORAGE_CHANGED
   */
  readRange(key: string, from: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  close(): void;
}

/** A file of a prepared mixture does not match its manifest. */
export function corrupt(where: string, expected: string, found: string, cause?: unknown): TrainerError {
  return new TrainerError(
    'SHARD_CORRUPT',
    `${where}: expected ${expected}, found ${found}; run "exmix prepare" again: it makes only damaged units again`,
    { cause },
  );
}

/** mixture.json does not exist. */
export function noMixture(where: string, cause: unknown): TrainerError {
  return new TrainerError('PATH_UNUSABLE', `${where}: expected a prepared mixture, found none; run "exmix prepare"`, {
    cause,
  });
}

/** Runs a bounded number of asynchronous reads at the same time. The others wait, first in, first out. */
export class ReadSlots {
  #free: number;
  /** Bounded by the number of callers: each waits for one read. */
  readonly #waiting: (() => void)[] = [];

  constructor(numSlots: number) {
    this.#free = numSlots;
  }

  /** @throws what `read` throws; ABORTED if the signal fired before the read started */
  async run<T>(read: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else
      await new Promise<void>((resolve) => {
        this.#waiting.push(resolve);
      });
    try {
      throwIfAborted(signal, 'a read that waits for its turn');
      return await read();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
