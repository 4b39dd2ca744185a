/**
 * Standard output and standard error of this process, guarded. All code prints through them; a lint rule forbids `process.stdout`.
 *
 * Definitions: a console shows what a person may read while something else is done (`write`); a result is what a command is run for
 * (`print`). A console is no part of a run: `write` neither throws nor waits.
 * Without a guard, Node ends the process at the first EPIPE, EIO or ENOSPC, and a terminal that is stopped (Ctrl-S) stops the process.
 */
import { fstatSync, write, writeSync } from 'node:fs';
import { isatty } from 'node:tty';
import { waitAtMost } from './abort.ts';
import { systemCode, toStorageError } from './atomic-file.ts';
import { systemClock } from './clock.ts';

/** Most bytes that wait for a slow reader of a console; further text is left out. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** At the end of the process, a reader has so long to take what waits, ms. */
const FLUSH_MS = 5_000;

export interface OutputFailure {
  readonly stream: 'standard output' | 'standard error';
  /** Of the system, e.g. EPIPE. */
  readonly code: string;
}

class StandardStream {
  readonly #fd: 1 | 2;
  readonly #name: OutputFailure['stream'];
  readonly #listeners = new Set<(failure: OutputFailure) => void>();
  #opened: { readonly stream: NodeJS.WriteStream; readonly isFile: boolean } | undefined;
  #failure: OutputFailure | undefined;
  #missingBytes = 0;

  constructor(fd: 1 | 2) {
    this.#fd = fd;
    this.#name = fd === 1 ? 'standard output' : 'standard error';
  }

  get isTTY(): boolean {
    return isatty(this.#fd);
  }

  get columns(): number | undefined {
    return this.isTTY ? this.#open().stream.columns : undefined;
  }

  /** From now on no error of the stream ends the process, whoever writes to it: libraries and threads do. */
  guard(): void {
    this.#open();
  }

  /** Calls `listener` when output is lost, also if some was lost before. */
  onFailure(listener: (failure: OutputFailure) => void): void {
    this.#listeners.add(listener);
    if (this.#failure !== undefined) listener(this.#failure);
  }

  /** Writes to the console. Text that cannot be written is left out; the next text that is written says how much is missing. */
  write(text: string): void {
    const { stream, isFile } = this.#open();
    const notice = this.#missingBytes === 0 ? '' : `\nexmix: ${this.#missingBytes} B of output are missing here\n`;
    if (isFile) {
      const lost = this.#append(notice + text);
      if (lost === undefined) {
        this.#missingBytes = 0;
        this.#failure = undefined;
      } else {
        this.#missingBytes += Math.min(lost.bytes, Buffer.byteLength(text));
        this.#fail(lost.error);
      }
    } else if (this.#failure !== undefined) {
      return; // its reader does not come back
    } else if (stream.writableLength > MAX_WAITING_BYTES) {
      this.#missingBytes += Buffer.byteLength(text);
    } else {
      stream.write(notice + text);
      this.#missingBytes = 0;
    }
  }

  /**
   * Writes a result of a command, and waits until it is written.
   * @returns false if its reader is gone, which is no error: `exmix tasks | head`
   * @throws DISK_FULL, PATH_UNUSABLE if a file cannot take it
   */
  async print(text: string): Promise<boolean> {
    const { stream, isFile } = this.#open();
    if (isFile) {
      const lost = this.#append(text);
      if (lost !== undefined) throw toStorageError(lost.error, 'write', this.#name);
    } else if (this.#failure === undefined) await new Promise<void>((resolve) => stream.write(text, () => resolve()));
    return isFile || this.#failure === undefined;
  }

  /** Resolves when all text is with its reader, or the reader is gone. */
  async flushed(): Promise<void> {
    if (this.#opened !== undefined && this.#opened.stream.writableLength > 0) await this.print('');
  }

  #open(): { readonly stream: NodeJS.WriteStream; readonly isFile: boolean } {
    if (this.#opened !== undefined) return this.#opened;
    const stream = this.#fd === 1 ? process.stdout : process.stderr;
    const { isTTY } = this;
    const facts = fstatSync(this.#fd);
    // A file is written directly: a stream gives up the rest of a text of which a full disk took a part. Devices are like files.
    const isFile = !isTTY && !facts.isFIFO() && !facts.isSocket();
    stream.on('error', (error: unknown) => {
      if (!isFile) this.#fail(error);
    });
    if (isTTY) makeNonBlocking(stream);
    this.#opened = { stream, isFile };
    return this.#opened;
  }

  /** @returns what was not written, and the error of the system */
  #append(text: string): { readonly bytes: number; readonly error: unknown } | undefined {
    const bytes = Buffer.from(text);
    let offset = 0;
    try {
      while (offset < bytes.length) offset += writeSync(this.#fd, bytes, offset);
      return undefined;
    } catch (error) {
      return { bytes: bytes.length - offset, error };
    }
  }

  #fail(error: unknown): void {
    const code = systemCode(error) ?? String(error);
    if (this.#failure?.code === code) return;
    this.#failure = { stream: this.#name, code };
    for (const listener of this.#listeners) listener(this.#failure);
  }
}

export const standardOutput = new StandardStream(1);
export const standardError = new StandardStream(2);

/** Waits until all output is with its readers. @returns false if a reader does not take it within FLUSH_MS */
export function flushStandardStreams(): Promise<boolean> {
  return waitAtMost(Promise.all([standardOutput.flushed(), standardError.flushed()]), FLUSH_MS, systemClock);
}

/** Writes to standard output from a thread, past the main thread. Resolves when the text is written or cannot be. */
export function writePastMainThread(text: string): Promise<void> {
  return new Promise((resolve) => write(1, text, () => resolve()));
}

/** Node writes to a terminal synchronously and has no public setting for that. */
function makeNonBlocking(stream: NodeJS.WriteStream): void {
  const { _handle: handle } = stream as { _handle?: { setBlocking?: (isBlocking: boolean) => unknown } };
  handle?.setBlocking?.(false);
}
