/**
 * Payloads for peers of the own host, in a file in memory (/dev/shm). The sender writes a payload there once; the frame on the socket carries
 * only its position, and the peer reads it from there into its arena. That makes two copies in place of a socket's four, never waits for
 * half-filled socket buffers, and writes a sum once for all peers.
 *
 * The file has a ring of slots for each reader's parts and one for the sums. The window of the all-reduce (step-exchange.ts) frees slots
 * without further messages: part q + window is sent only after the sum of part q came back. Sum q + window is sent only after every peer
 * has sent its part q + window, which it does after reading sum q.
 *
 * The file loses its name when every reader has opened it. The next process removes files of killed processes.
 */
import { closeSync, constants, ftruncateSync, openSync, readdirSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { listLocalSockets } from '../../shared/transport/local-socket.ts';
import { FRAME_SUM, type FrameHeader } from './frame-header.ts';

export const OUTBOX_FOLDER = '/dev/shm';
const ZEROS = Buffer.alloc(1 << 20);
const FILE_NAME = /^(exmix-[0-9a-f]{32})\.\d+\.\d+$/;

export interface OutboxInit {
  readonly path: string;
  /** Ranks that may read it. */
  readonly readers: readonly number[];
  readonly frameBytes: number;
  /** Pieces under way per chunk owner. */
  readonly window: number;
  /** Parts of the own rank per piece. */
  readonly numCoverNodes: number;
}

/** Path of the outbox of the worker with this local socket. */
export function outboxPath(folder: string, socketName: string, epoch: number, generation: number): string {
  return join(folder, `${socketName}.${epoch}.${generation}`);
}

/** Removes files of processes whose local socket is gone. */
export function sweepOutboxes(folder: string): void {
  const alive = listLocalSockets();
  for (const name of readdirSync(folder)) {
    const owner = FILE_NAME.exec(name)?.[1];
    if (owner !== undefined && !alive.has(owner)) unlinkIfThere(join(folder, name));
  }
}

export class Outbox {
  readonly #init: OutboxInit;
  readonly #file: number;
  /** Parts written so far, by reader. */
  readonly #parts: Map<number, number>;
  readonly #sumsAt: number;
  #numSums = 0;
  #lastSum: { readonly step: number; readonly offsetBytes: number } | null = null;
  readonly #unopened: Set<number>;
  readonly #present: Set<number>;
  #isClosed = false;

  private constructor(init: OutboxInit, file: number) {
    this.#init = init;
    this.#file = file;
    this.#unopened = new Set(init.readers);
    this.#present = new Set(init.readers);
    this.#parts = new Map(init.readers.map((reader) => [reader, 0]));
    this.#sumsAt = init.readers.length * this.#partSlots * init.frameBytes;
  }

  /** Creates the file and allocates its memory. @throws DISK_FULL, PATH_UNUSABLE */
  static create(init: OutboxInit): Outbox {
    let outbox: Outbox | null = null;
    try {
      const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
      outbox = new Outbox(init, openSync(init.path, flags, 0o600));
      outbox.#allocate();
      return outbox;
    } catch (error) {
      outbox?.close();
      throw toStorageError(error, 'create the outbox', init.path);
    }
  }

  get #partSlots(): number {
    return this.#init.window * this.#init.numCoverNodes;
  }

  /** Pieces under way that it has slots for. */
  get window(): number {
    return this.#init.window;
  }

  /** Writes a payload for the reader; a sum that was written for another reader is not written again. @returns its position, bytes */
  store(reader: number, { type, step, offsetBytes }: FrameHeader, payload: Uint8Array): number {
    assertInvariant(!this.#isClosed, 'a frame is stored in an outbox that is closed');
    const { frameBytes, window, readers } = this.#init;
    if (type !== FRAME_SUM) {
      const numWritten = this.#parts.get(reader)!;
      this.#parts.set(reader, numWritten + 1);
      const slot = readers.indexOf(reader) * this.#partSlots + (numWritten % this.#partSlots);
      return this.#write(slot * frameBytes, payload);
    }
    const isThere = this.#lastSum?.step === step && this.#lastSum.offsetBytes === offsetBytes;
    if (!isThere) this.#numSums++;
    this.#lastSum = { step, offsetBytes };
    const position = this.#sumsAt + ((this.#numSums - 1) % window) * frameBytes;
    return isThere ? position : this.#write(position, payload);
  }

  /** The reader has opened the file, or does without. After the last reader the file loses its name. */
  opened(reader: number): void {
    if (this.#unopened.delete(reader) && this.#unopened.size === 0) unlinkIfThere(this.#init.path);
  }

  /** The reader's channel is closed. After the last one the memory is freed. */
  left(reader: number): void {
    if (this.#present.delete(reader) && this.#present.size === 0) this.close();
  }

  /** Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    unlinkIfThere(this.#init.path);
    closeSync(this.#file);
  }

  /** Touches all pages now, so that a full memory fails here and not in the middle of a step. */
  #allocate(): void {
    const numBytes = this.#sumsAt + this.#init.window * this.#init.frameBytes;
    ftruncateSync(this.#file, numBytes);
    for (let at = 0; at < numBytes; at += ZEROS.length)
      this.#write(at, ZEROS.subarray(0, Math.min(ZEROS.length, numBytes - at)));
  }

  #write(position: number, payload: Uint8Array): number {
    for (let done = 0; done < payload.length;)
      done += writeSync(this.#file, payload, done, payload.length - done, position + done);
    return position;
  }
}

export class OutboxReader {
  readonly #file: number;
  readonly #peer: string;

  private constructor(file: number, peer: string) {
    this.#file = file;
    this.#peer = peer;
  }

  /** @param peer for messages @returns null where this process finds none */
  static open(path: string, peer: string): OutboxReader | null {
    try {
      return new OutboxReader(openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW), peer);
    } catch {
      return null;
    }
  }

  /** Fills the target from a position, bytes. @throws FRAME_INVALID when the file ends before */
  read(position: number, target: Uint8Array): void {
    for (let done = 0; done < target.length;) {
      const count = readSync(this.#file, target, done, target.length - done, position + done);
      if (count === 0)
        throw new TrainerError(
          'FRAME_INVALID',
          `outbox of ${this.#peer}: expected ${target.length} B at ${position}, it ends after ${done}`,
        );
      done += count;
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // another process has removed it
  }
}
