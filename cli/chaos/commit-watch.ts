/**
 * Follows the commits of a run whose coordinator writes its journal meanwhile, and may be killed while it does. Reads each byte once; a line
 * that is not whole yet, or was torn by a kill and is cut off by the next coordinator, is not taken.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { decodeLine } from '../../coordinator/journal/journal.ts';

const NEWLINE = 0x0a;
/** Of one read; a commit has some hundred bytes. */
const READ_BYTES = 1 << 18;

export class CommitWatch {
  readonly #path: string;
  /** Of the whole lines that were taken. */
  #taken = 0;

  /** @param path of the journal; it need not be there yet */
  constructor(path: string) {
    this.#path = path;
  }

  /** Steps committed since the last look, in the order of the journal. @throws PATH_UNUSABLE */
  async look(): Promise<number[]> {
    let file: FileHandle;
    try {
      file = await open(this.#path, 'r');
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return [];
      throw toStorageError(error, 'read', this.#path);
    }
    try {
      const steps: number[] = [];
      for (;;) {
        const bytes = Buffer.alloc(READ_BYTES);
        const { bytesRead } = await file.read(bytes, 0, READ_BYTES, this.#taken);
        const numTaken = this.#take(bytes.subarray(0, bytesRead), steps);
        if (numTaken === 0) return steps;
        this.#taken += numTaken;
      }
    } finally {
      await file.close();
    }
  }

  /** @returns bytes of the whole lines */
  #take(bytes: Buffer, steps: number[]): number {
    let start = 0;
    for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, start)) {
      const record = decodeLine(bytes.subarray(start, end));
      if (typeof record === 'string') break;
      if (record.kind === 'step-committed' || record.kind === 'step-skipped') steps.push(record.step);
      start = end + 1;
    }
    return start;
  }
}
