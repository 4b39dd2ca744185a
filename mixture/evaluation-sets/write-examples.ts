/**
 * Writes examples.jsonl: all examples of a source, or a sample of them.
 *
 * Examples that are in the sample when they come are written at once; those that later ones push out are dropped in a second pass over the
 * file. So memory holds no text. For N examples and a sample of n, about n · (1 + ln(N / n)) are written.
 */
import { createReadStream } from 'node:fs';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFile, toStorageError, type FileDigest } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { EXAMPLES_FILE, MAX_EXAMPLES_BYTES, serializeExample } from './set-record.ts';
import type { NewExample } from './set-rows.ts';
import { SetSample } from './set-sample.ts';

const CANDIDATES_FILE = 'candidates.jsonl';
/** Text that is kept before it is written, bytes. */
const BUFFER_BYTES = 1024 * 1024;
const LINE_FEED = 0x0a;

export interface WriterInit {
  readonly folder: string;
  readonly task: string;
  readonly set: string;
  readonly maxExamples: number;
}

export interface WrittenExamples extends FileDigest {
  readonly numExamples: number;
  readonly numCutInputs: number;
  readonly numCutTargets: number;
  /** Examples that came. */
  readonly numSeen: number;
}

interface Candidate {
  readonly key: number;
  readonly hasCutInputs: boolean;
  readonly hasCutTargets: boolean;
}

export class ExamplesWriter {
  readonly #init: WriterInit;
  readonly #sample: SetSample;
  readonly #candidates: Candidate[] = [];
  readonly #file: LineFile;

  private constructor(init: WriterInit, file: LineFile) {
    this.#init = init;
    this.#sample = new SetSample(init.maxExamples, init.task, init.set);
    this.#file = file;
  }

  /** @throws PATH_UNUSABLE, DISK_FULL */
  static async open(init: WriterInit): Promise<ExamplesWriter> {
    return new ExamplesWriter(init, await LineFile.open(join(init.folder, CANDIDATES_FILE)));
  }

  get numSeen(): number {
    return this.#sample.numSeen;
  }

  async add(example: NewExample): Promise<void> {
    const key = this.#sample.add();
    if (key === undefined) return;
    const { cutInputTokens, cutTargetTokens } = example;
    this.#candidates.push({ key, hasCutInputs: cutInputTokens > 0, hasCutTargets: cutTargetTokens > 0 });
    await this.#file.add(serializeExample(example));
  }

  /** @throws CONFIG_INVALID if the set has more than MAX_EXAMPLES_BYTES; PATH_UNUSABLE, DISK_FULL */
  async finish(): Promise<WrittenExamples> {
    const { folder, task, set, maxExamples } = this.#init;
    await this.#file.close();
    const [from, path] = [join(folder, CANDIDATES_FILE), join(folder, EXAMPLES_FILE)];
    const kept = this.#candidates.filter(({ key }) => this.#sample.has(key));
    try {
      if (kept.length === this.#candidates.length) await rename(from, path);
      else {
        const sample = await LineFile.open(path);
        try {
          let at = 0;
          for await (const line of linesOf(from))
            if (this.#sample.has(this.#candidates[at++]!.key)) await sample.add(line);
        } finally {
          await sample.close();
        }
        await rm(from);
      }
    } catch (error) {
      throw toStorageError(error, 'write', path);
    }
    const digest = await hashFile(path);
    if (digest.bytes > MAX_EXAMPLES_BYTES)
      throw new TrainerError(
        'CONFIG_INVALID',
        `task ${task}, set ${set}: expected at most ${MAX_EXAMPLES_BYTES} B of examples, found ${digest.bytes} B in ${kept.length}; ` +
          `choose fewer than ${maxExamples} examples`,
      );
    return {
      ...digest,
      numExamples: kept.length,
      numCutInputs: kept.filter(({ hasCutInputs }) => hasCutInputs).length,
      numCutTargets: kept.filter(({ hasCutTargets }) => hasCutTargets).length,
      numSeen: this.#sample.numSeen,
    };
  }

  /** Closes the file; its folder is removed by the caller. */
  async abandon(): Promise<void> {
    await this.#file.abandon();
  }
}

/** A new file of lines. */
class LineFile {
  readonly #path: string;
  readonly #file: FileHandle;
  #lines: string[] = [];
  #length = 0;
  #isClosed = false;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  static async open(path: string): Promise<LineFile> {
    try {
      return new LineFile(path, await open(path, 'wx'));
    } catch (error) {
      throw toStorageError(error, 'create', path);
    }
  }

  async add(line: string): Promise<void> {
    this.#lines.push(line, '\n');
    this.#length += line.length + 1;
    if (this.#length >= BUFFER_BYTES) await this.#flush();
  }

  /** Writes the rest and fsyncs. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await this.#flush();
      await this.#file.sync();
    } catch (error) {
      throw toStorageError(error, 'write', this.#path);
    } finally {
      await this.#file.close();
    }
  }

  /** Closes the file as it is. */
  async abandon(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#file.close();
  }

  async #flush(): Promise<void> {
    const text = this.#lines.join('');
    this.#lines = [];
    this.#length = 0;
    try {
      await this.#file.writeFile(text);
    } catch (error) {
      throw toStorageError(error, 'write', this.#path);
    }
  }
}

/** The lines of a file that LineFile wrote. A line of JSON may hold other separators (U+2028), so only line feeds count. */
async function* linesOf(path: string): AsyncGenerator<string> {
  let rest = Buffer.alloc(0);
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let from = 0;
    for (let end = bytes.indexOf(LINE_FEED); end >= 0; end = bytes.indexOf(LINE_FEED, from)) {
      yield bytes.toString('utf8', from, end);
      from = end + 1;
    }
    rest = Buffer.from(bytes.subarray(from));
  }
}
