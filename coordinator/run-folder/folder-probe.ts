/**
 * Proves, before a worker trains, that it reads and writes the run folder of this coordinator and not another folder of that name.
 *
 * The coordinator makes a folder in `checkpoints/` with a random text in it. A worker reads the text and writes it to a file of its own beside
 * it; `ready` has both. The coordinator then reads that file. The folder is made as those that checkpoints are written into, so a worker
 * that may not write there fails too.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { removeLeftovers, toStorageError, writeNewFile } from '../../shared/atomic-file.ts';
import { toTrainerError } from '../../shared/errors.ts';
import { readIfThere } from '../../shared/small-file.ts';
import type { MessageOf, ReadyMessage } from '../../shared/protocol/messages.ts';

const PREFIX = '.probe-';
const WORKER_FILE = /^worker-[0-9a-f-]{36}$/u;
/** A close frame holds 123 B: the worker reads at least this. */
const CURE = 'its host must have the file system of the run folder under the same path';

export class FolderProbe {
  readonly #folder: string;
  readonly #text = randomUUID();

  private constructor(folder: string) {
    this.#folder = folder;
  }

  /** Removes probes of killed coordinators. @throws PATH_UNUSABLE, DISK_FULL */
  static async create(checkpointsFolder: string): Promise<FolderProbe> {
    await removeLeftovers(checkpointsFolder, [PREFIX]);
    const probe = new FolderProbe(join(checkpointsFolder, PREFIX + randomUUID()));
    try {
      await mkdir(probe.#folder);
    } catch (error) {
      throw toStorageError(error, 'make', probe.#folder);
    }
    await writeNewFile(probe.#path, probe.#text);
    return probe;
  }

  get #path(): string {
    return join(this.#folder, 'coordinator');
  }

  /** For `welcome`. @param newest checkpoint, or the folder of `init`, that a worker may have to load; one in the run folder needs no probe of its own */
  request(newest: string | undefined): NonNullable<MessageOf<'welcome'>['probe']> {
    const isElsewhere = newest !== undefined && dirname(newest) !== dirname(this.#folder);
    return { path: this.#path, ...(isElsewhere ? { checkpoint: newest } : {}) };
  }

  /** Removes the file of the worker. @returns why the worker does not see the run folder; undefined where it does. Never rejects */
  async findFault(answer: ReadyMessage['probe']): Promise<string | undefined> {
    if (answer === undefined) return `it did not read the run folder: ${CURE}; ${this.#folder}`;
    const { text, file } = answer;
    if (text !== this.#text) return `it read another folder: ${CURE}; another text is in ${this.#path}`;
    if (!WORKER_FILE.test(file)) return `expected the name of its file in ${this.#folder}, got ${JSON.stringify(file)}`;
    const path = join(this.#folder, file);
    try {
      const found = await readIfThere(path);
      if (found === undefined) return `it wrote to another folder: ${CURE}; expected ${path}, found none`;
      return found === text ? undefined : `it wrote to another folder: ${CURE}; another text is in ${path}`;
    } catch (error) {
      return toTrainerError(error).message;
    } finally {
      await rm(path, { force: true }).catch(() => undefined); // `remove` tries again
    }
  }

  async remove(): Promise<void> {
    await rm(this.#folder, { recursive: true, force: true }).catch(() => undefined); // the next coordinator removes it
  }
}
