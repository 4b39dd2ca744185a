/**
 * An append-only file of whole records. Each record is on disk when its append resolves; a record that could not be written whole is cut off.
 *
 * Assumes a handle in append mode (so that a cut leaves no hole), one writer, one append at a time, and a disk that keeps what fsync reported.
 * A failed fsync may have lost the data: the record is written again, never only synced again.
 */
import type { FileHandle } from 'node:fs/promises';
import { toStorageError } from '../../shared/atomic-file.ts';

/** Makes an attempt, and repeats it while the disk is full (disk-space.ts). */
export type KeepTrying = <Result>(attempt: () => Promise<Result>) => Promise<Result>;

export interface RecordFileInit {
  readonly path: string;
  readonly handle: FileHandle;
  /** Length of the file, all of whole records. */
  readonly bytes: number;
  readonly keepTrying: KeepTrying;
}

export class RecordFile {
  readonly path: string;
  readonly #handle: FileHandle;
  readonly #keepTrying: KeepTrying;
  #bytes: number;
  /** The file may end with a part of a record. */
  #isTorn = false;

  constructor({ path, handle, bytes, keepTrying }: RecordFileInit) {
    this.path = path;
    this.#handle = handle;
    this.#bytes = bytes;
    this.#keepTrying = keepTrying;
  }

  /** Length of the records that are on disk. */
  get bytes(): number {
    return this.#bytes;
  }

  /** @returns resolves when the record is on disk @throws DISK_FULL, PATH_UNUSABLE; the file then ends with the record before */
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
      // If the cut fails now, the next attempt or the next session makes it: no caller was told that the record is there.
      await this.#cutOff().catch(() => undefined);
      throw toStorageError(error, 'append to', this.path);
    }
  }

  async #cutOff(): Promise<void> {
    await this.#handle.truncate(this.#bytes);
    this.#isTorn = false;
  }
}
