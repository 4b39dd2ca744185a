/**
 * Reads new commits from a journal that a coordinator is writing. Reads each byte of a complete line once. Leaves a line that is not yet
 * complete, or that a kill has torn: the next coordinator truncates it.
 */
import { open, type FileHandle } from 'node:fs/promises';
import { READ_ONLY, systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { decodeLine } from '../../coordinator/journal/journal.ts';

const NEWLINE = 0x0a;
/** Bytes of one read; a commit has some hundred bytes. */
const READ_BYTES = 1 << 18;

export class CommitWatch {
  readonly #path: string;
  /** Bytes of the lines read so far. */
  #offset = 0;

  /** @param path of the journal; it may not exist yet */
  constructor(path: string) {
    this.#path = path;
  }

  /** @returns the steps committed since the last call, in the order of the journal @throws PATH_UNUSABLE */
  async poll(): Promise<number[]> {
    let file: FileHandle;
    try {
      file = await open(this.#path, READ_ONLY);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return [];
      throw toStorageError(error, 'read', this.#path);
    }
    try {
      const steps: number[] = [];
      for (;;) {
        const bytes = Buffer.alloc(READ_BYTES);
        const { bytesRead } = await file.read(bytes, 0, READ_BYTES, this.#offset);
        const numRead = appendCommits(bytes.subarray(0, bytesRead), steps);
        if (numRead === 0) return steps;
        this.#offset += numRead;
      }
    } finally {
      await file.close();
    }
  }
}

/** Appends the committed steps of the complete lines. @returns bytes of these lines */
function appendCommits(bytes: Buffer, steps: number[]): number {
  let start = 0;
  for (let end = bytes.indexOf(NEWLINE); end !== -1; end = bytes.indexOf(NEWLINE, start)) {
    const decoded = decodeLine(bytes.subarray(start, end));
    if (typeof decoded === 'string') break;
    const { record } = decoded;
    if (record.kind === 'step-committed' || record.kind === 'step-skipped') steps.push(record.step);
    start = end + 1;
  }
  return start;
}
