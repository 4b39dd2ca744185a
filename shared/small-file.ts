/**
 * Reads whole small files that others may have made: manifests, configs, tokens, records, indexes.
 *
 * A name may be anything: a FIFO without a writer blocks open(2) for ever, /dev/zero never ends. So the file is opened without blocking,
 * must be a regular one, and at most `maxBytes` are read. Symbolic links are followed.
 */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { checkRegular, notThere, READ_ONLY, withRegularFile } from './atomic-file.ts';
import { TrainerError } from './errors.ts';

/** Bound of files that have no other one, bytes. */
const SMALL_FILE_BYTES = 16 * 1024 * 1024;

/**
 * @throws PATH_UNUSABLE for anything but a regular file of at most `maxBytes`; a failure of the system as it is (`systemCode`)
 */
export async function readSmallFile(path: string, maxBytes = SMALL_FILE_BYTES): Promise<Buffer> {
  return withRegularFile(path, async (file, { size }) => {
    const content = new BoundedContent(path, maxBytes, size);
    for (;;) {
      const room = content.room();
      const { bytesRead } = await file.read(room, 0, room.length);
      if (bytesRead === 0) return content.bytes();
      content.add(bytesRead);
    }
  });
}

/** As readSmallFile, for callers that cannot wait. */
export function readSmallFileSync(path: string, maxBytes = SMALL_FILE_BYTES): Buffer {
  const file = openSync(path, READ_ONLY);
  try {
    const facts = fstatSync(file);
    checkRegular(path, facts);
    const content = new BoundedContent(path, maxBytes, facts.size);
    for (;;) {
      const room = content.room();
      const bytesRead = readSync(file, room, 0, room.length, null);
      if (bytesRead === 0) return content.bytes();
      content.add(bytesRead);
    }
  } finally {
    closeSync(file);
  }
}

/** Text of a small file; undefined if it does not exist. @throws PATH_UNUSABLE */
export async function readIfThere(path: string, maxBytes = SMALL_FILE_BYTES): Promise<string | undefined> {
  return readSmallFile(path, maxBytes).then(
    (bytes) => bytes.toString('utf8'),
    (error: unknown) => notThere(error, path),
  );
}

/** What was read so far. The stated size is a hint: a file of /proc states 0, and a file may grow. */
class BoundedContent {
  readonly #path: string;
  readonly #maxBytes: number;
  #bytes: Buffer;
  #length = 0;

  /** @throws PATH_UNUSABLE */
  constructor(path: string, maxBytes: number, size: number) {
    this.#path = path;
    this.#maxBytes = maxBytes;
    if (size > maxBytes) throw this.#tooLarge(`${size} B`);
    this.#bytes = Buffer.alloc(size + 1); // one more, so that the end is seen without growing
  }

  /** Where the next bytes go; never empty. */
  room(): Buffer {
    if (this.#length === this.#bytes.length)
      this.#bytes = Buffer.concat([this.#bytes], Math.min(this.#maxBytes + 1, 2 * this.#bytes.length + 4096));
    return this.#bytes.subarray(this.#length);
  }

  add(numBytes: number): void {
    this.#length += numBytes;
    if (this.#length > this.#maxBytes) throw this.#tooLarge('more');
  }

  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  #tooLarge(found: string): TrainerError {
    return new TrainerError('PATH_UNUSABLE', `${this.#path}: expected at most ${this.#maxBytes} B, found ${found}`);
  }
}
