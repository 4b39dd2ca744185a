/**
 * Payloads for peers of the own host, in a file in memory (/dev/shm). The sender writes a payload there once; the frame on the socket carries
 * only its position, and the peer reads it from there into its arena. That makes two copies in place of a socket's four, never waits for
 * half-filled socket buffers, and writes a sum once for all peers.
 *
 * The file has a ring of slots for each reader's parts and one for the sums. The window of the all-reduce (step-exchange.ts) frees slots
 * without further messages: part q + window is sent only after the sum of part q came back. Sum q + window is sent only after every peer
 * has sent its part q + window, which it does after reading sum q.
 *
 * Every local user may make files in that folder. So the name has 128 random bits, and the sender tells it to its peers in the
 * authenticated greeting of the data connection. The sender takes only a file that it has made; a reader takes only a regular file of its
 * own user with one name and the length that was told, and opening never waits. With anything else payloads go through the sockets.
 *
 * The file loses its name when every reader has opened it. The next process removes files of killed processes.
 */
import { randomBytes } from 'node:crypto';
import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  openSync,
  opendirSync,
  readSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { toStorageError } from '../../shared/atomic-file.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { listLocalSockets } from '../../shared/transport/local-socket.ts';
import { FRAME_SUM, type FrameHeader } from './frame-header.ts';

export const OUTBOX_FOLDER = '/dev/shm';
const ZEROS = Buffer.alloc(1 << 20);
const FILE_NAME = /^(exmix-[0-9a-f]{32})\.[0-9a-f]{32}$/;
const GREETING = /^outbox (exmix-[0-9a-f]{32}\.[0-9a-f]{32}) ([1-9]\d{0,14})$/;
/** Names that are tried. A second one is needed only where somebody knows our random numbers. */
const MAX_NAMES = 4;
/** Entries of the folder that are looked at for files of killed processes. */
const MAX_SWEPT = 4096;

export interface OutboxInit {
  readonly folder: string;
  /** Name of the worker's local socket: who finds the file knows whether its process lives. */
  readonly socketName: string;
  /** Ranks that may read it. */
  readonly readers: readonly number[];
  readonly frameBytes: number;
  /** Pieces under way per chunk owner. */
  readonly window: number;
  /** Parts of the own rank per piece. */
  readonly numCoverNodes: number;
}

/** Removes files of processes whose local socket is gone. Files of other users stay. @throws what the system does */
export function sweepOutboxes(folder: string): void {
  const alive = listLocalSockets();
  const entries = opendirSync(folder);
  try {
    for (let numSwept = 0; numSwept < MAX_SWEPT; numSwept++) {
      const entry = entries.readSync();
      if (entry === null) break;
      const owner = FILE_NAME.exec(entry.name)?.[1];
      if (owner !== undefined && !alive.has(owner)) unlinkIfThere(join(folder, entry.name));
    }
  } finally {
    entries.closeSync();
  }
}

export class Outbox {
  readonly #init: OutboxInit;
  readonly #name: string;
  readonly #file: number;
  /** Parts written so far, by reader. */
  readonly #parts: Map<number, number>;
  readonly #sumsAt: number;
  #numSums = 0;
  #lastSum: { readonly step: number; readonly offsetBytes: number } | null = null;
  readonly #unopened: Set<number>;
  readonly #present: Set<number>;
  #isClosed = false;

  private constructor(init: OutboxInit, { name, file }: { readonly name: string; readonly file: number }) {
    this.#init = init;
    this.#name = name;
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
      outbox = new Outbox(init, createFile(init));
      outbox.#allocate();
      return outbox;
    } catch (error) {
      outbox?.close();
      throw toStorageError(error, 'create an outbox in', init.folder);
    }
  }

  /** Tells a reader the name and the length; '' for a rank that is none. */
  greetingFor(rank: number): string {
    return this.#init.readers.includes(rank) ? `outbox ${this.#name} ${this.#numBytes}` : '';
  }

  get #path(): string {
    return join(this.#init.folder, this.#name);
  }

  get #numBytes(): number {
    return this.#sumsAt + this.#init.window * this.#init.frameBytes;
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
    if (this.#unopened.delete(reader) && this.#unopened.size === 0) unlinkIfThere(this.#path);
  }

  /** The reader's channel is closed. After the last one the memory is freed. */
  left(reader: number): void {
    if (this.#present.delete(reader) && this.#present.size === 0) this.close();
  }

  /** Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    unlinkIfThere(this.#path);
    closeSync(this.#file);
  }

  /** Touches all pages now, so that a full memory fails here and not in the middle of a step. */
  #allocate(): void {
    const numBytes = this.#numBytes;
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

/** A new file of this process that nobody else can open. @throws what the system does */
function createFile({ folder, socketName }: OutboxInit): { readonly name: string; readonly file: number } {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  for (let numTried = 1; ; numTried++) {
    const name = `${socketName}.${randomBytes(16).toString('hex')}`;
    try {
      return { name, file: openSync(join(folder, name), flags, 0o600) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || numTried === MAX_NAMES) throw error;
    }
  }
}

export class OutboxReader {
  readonly #file: number;
  readonly #numBytes: number;
  readonly #peer: string;

  private constructor(file: number, numBytes: number, peer: string) {
    this.#file = file;
    this.#numBytes = numBytes;
    this.#peer = peer;
  }

  /**
   * @param greeting of the sender @param peer for messages
   * @returns null where the sender has told of none @throws PATH_UNUSABLE where this process does not find that file
   */
  static open(folder: string, greeting: string, peer: string): OutboxReader | null {
    if (greeting === '') return null;
    const [, name, length] = GREETING.exec(greeting) ?? [];
    if (name === undefined)
      throw new TrainerError(
        'PATH_UNUSABLE',
        `outbox of ${peer}: expected a name and a length, got ${JSON.stringify(greeting)}`,
      );
    const path = join(folder, name);
    const numBytes = Number(length);
    let file: number | undefined;
    try {
      // Without O_NONBLOCK a FIFO would hold this thread until somebody writes to it.
      file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
      const wrong = findWrong(file, numBytes);
      if (wrong === undefined) return new OutboxReader(file, numBytes, peer);
      throw new TrainerError('PATH_UNUSABLE', `outbox of ${peer}: ${path}: ${wrong}`);
    } catch (error) {
      if (file !== undefined) closeSync(file);
      throw error instanceof TrainerError ? error : toStorageError(error, `open the outbox of ${peer}`, path);
    }
  }

  /** Fills the target from a position, bytes. @throws FRAME_INVALID for a place outside the file */
  read(position: number, target: Uint8Array): void {
    if (position + target.length > this.#numBytes) throw this.#tooShort(position, target, this.#numBytes - position);
    for (let done = 0; done < target.length;) {
      const count = readSync(this.#file, target, done, target.length - done, position + done);
      if (count === 0) throw this.#tooShort(position, target, done);
      done += count;
    }
  }

  #tooShort(position: number, target: Uint8Array, numBytes: number): TrainerError {
    return new TrainerError(
      'FRAME_INVALID',
      `outbox of ${this.#peer}: expected ${target.length} B at ${position}, it ends after ${Math.max(0, numBytes)}`,
    );
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** How a file differs from the outbox that was told of; undefined where it does not. */
function findWrong(file: number, numBytes: number): string | undefined {
  const found = fstatSync(file);
  if (!found.isFile()) return 'expected a regular file';
  const uid = process.getuid?.();
  if (found.uid !== uid) return `expected a file of user ${uid}, it is of user ${found.uid}`;
  if (found.nlink !== 1) return `expected a file with one name, it has ${found.nlink}`;
  return found.size === numBytes ? undefined : `expected ${numBytes} B, it has ${found.size}`;
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // another process has removed it
  }
}
