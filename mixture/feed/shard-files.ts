/** Reads at a position from many files, with a bounded number of them open: the least recently used one is closed. */
import { closeSync, openSync, readSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';

/** Far below the usual limit of 1,024 descriptors of a process. */
const MAX_OPEN_FILES = 128;

export class ShardFiles {
  /** Path → descriptor, the least recently used first. */
  readonly #open = new Map<string, number>();
  #bytes = Buffer.allocUnsafe(65_536);

  /** @returns a view that is valid until the next read @throws PATH_UNUSABLE; SHARD_CORRUPT where the file ends before */
  read(path: string, position: number, numBytes: number): Buffer {
    if (numBytes > this.#bytes.length) this.#bytes = Buffer.allocUnsafe(2 * numBytes);
    let got = 0;
    try {
      const file = this.#descriptor(path);
      while (got < numBytes) {
        const count = readSync(file, this.#bytes, got, numBytes - got, position + got);
        if (count === 0) break;
        got += count;
      }
    } catch (error) {
      throw toStorageError(error, 'read', path);
    }
    if (got < numBytes)
      throw new TrainerError(
        'SHARD_CORRUPT',
        `${path}: expected ${numBytes} B at ${position}, found ${got} B; run "exmix prepare" again`,
      );
    return this.#bytes.subarray(0, numBytes);
  }

  close(): void {
    for (const file of this.#open.values()) closeSync(file);
    this.#open.clear();
  }

  #descriptor(path: string): number {
    let file = this.#open.get(path);
    if (file === undefined) {
      file = openSync(path, 'r');
      const oldest = this.#open.size >= MAX_OPEN_FILES ? [...this.#open.keys()][0] : undefined;
      if (oldest !== undefined) {
        closeSync(this.#open.get(oldest)!);
        this.#open.delete(oldest);
      }
    } else {
      this.#open.delete(path);
    }
    this.#open.set(path, file);
    return file;
  }
}

/** @throws SHARD_CORRUPT for a file that is missing, PATH_UNUSABLE */
export async function sizeOf(path: string): Promise<number> {
  try {
    return (await stat(path)).size;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT')
      throw new TrainerError('SHARD_CORRUPT', `${path}: expected the file, found none; run "exmix prepare" again`, {
        cause: error,
      });
    throw toStorageError(error, 'read', path);
  }
}
