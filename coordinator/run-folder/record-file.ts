/**
 * A file that grows by whole records: each is on disk when its append resolves, and what could not be written whole is cut off again.
 * A full disk is waited for (room-on-disk.ts).
 *
 * Assumes a handle in append mode (so that a cut is not followed by a hole), one writer, one append at a time, and a disk that keeps
 * what fsync reported. A failed fsync may have lost what was written: the record is written again, never only synced again.
 */
import type { FileHandle } from 'node:fs/promises';
import { toStorageError } from '../../shared/atomic-file.ts';

/** Makes an attempt, and makes it again where that is of use. */
export type KeepTrying = <Result>(attempt: () => Promise<Result>) => Promise<Result>;

export interface RecordFileInit {
  readonly path: string;
  readonly handle: FileHandle;
  /** Bytes that are there, all of whole records. */
  readonly bytes: number;
  readonly keepTrying: KeepTrying;
}

export class RecordFile {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #keepTrying: KeepTrying;
  #bytes: number;
  /** There may be more in the file than the whole records. */
  #isTorn = false;

  constructor({ path, handle, bytes, keepTrying }: RecordFileInit) {
    this.path = path;
    this.#handle = handle;
    this.#bytes = bytes;
    this.#keepTrying = keepTrying;
  }

  /** Of the records that are on disk. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @returns resolves when the record is on disk @throws DISK_FULL, PATH_UNUSABLE; the file ends with the record before it then */
  append(record: Buffer): Promise<void> {
    return this.#keepTrying(() => this.#write(record));
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #write(record: Buffer): Promise<void> {
    try {
      if (this.#isTorn) await this.#cutOff();
      this.#isTorn = true;
      await this.#handle.appendFile(record);
      await this.#handle.datasync();
      this.#isTorn = false;
      this.#bytes += record.length;
    } catch (error) {
      // If it cannot be cut off now, the next attempt or the next session does it: nobody was told that the record is there.
      await this.#cutOff().catch(() => undefined);
      throw toStorageError(error, 'append to', this.path);
    }
  }

  async #cutOff(): Promise<void> {
    await this.#handle.truncate(this.#bytes);
    this.#isTorn = false;
  }
}
