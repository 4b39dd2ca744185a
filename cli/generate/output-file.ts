/** The output of a generation that was stopped and goes on: whole lines, and the settings that made them. */
import { createReadStream } from 'node:fs';
import { appendFile, truncate } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import { replaceFile, statIfThere, toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { readIfThere } from '../../shared/small-file.ts';

const LINE_FEED = 0x0a;

export class OutputFile {
  readonly #path: string;
  /** Inputs of the lines that the file had, oldest first. */
  readonly earlier: AsyncIterable<string>;

  private constructor(path: string, earlier: AsyncIterable<string>) {
    this.#path = path;
    this.earlier = earlier;
  }

  /**
   * Opens a file for more lines; cuts a last line that is not whole.
   * @param settings what the lines depend on; plain JSON
   * @throws CONFIG_INVALID if the file was made with other settings; PATH_UNUSABLE
   */
  static async open(path: string, settings: object): Promise<OutputFile> {
    const sidecar = `${path}.settings.json`;
    const [there, text] = [await statIfThere(path), await readIfThere(sidecar)];
    if (there === undefined) {
      await replaceFile(sidecar, `${JSON.stringify(settings, null, 2)}\n`);
      return new OutputFile(path, none());
    }
    if (text === undefined) {
      throw new TrainerError(
        'CONFIG_INVALID',
        `${path} exists, and exmix did not make it: ${sidecar} is missing; name another --output`,
      );
    }
    const before = parseJson(text, sidecar);
    if (!isDeepStrictEqual(before, JSON.parse(JSON.stringify(settings)))) {
      throw new TrainerError(
        'CONFIG_INVALID',
        `${path} was made with other settings or another model, see ${sidecar}; remove both files, or name another --output`,
      );
    }
    const wholeBytes = await countWholeLines(path);
    if (wholeBytes < there.size) await truncate(path, wholeBytes);
    return new OutputFile(path, inputsOf(path));
  }

  /** @throws DISK_FULL, PATH_UNUSABLE */
  async append(lines: readonly string[]): Promise<void> {
    try {
      await appendFile(this.#path, lines.map((line) => `${line}\n`).join(''));
    } catch (error) {
      throw toStorageError(error, 'write to', this.#path);
    }
  }
}

async function* none(): AsyncGenerator<string> {
  // A new file has no earlier lines.
}

/** Bytes up to and with the last line feed. */
async function countWholeLines(path: string): Promise<number> {
  let bytes = 0;
  let whole = 0;
  for await (const chunk of createReadStream(path) as AsyncIterable<Buffer>) {
    const last = chunk.lastIndexOf(LINE_FEED);
    if (last !== -1) whole = bytes + last + 1;
    bytes += chunk.length;
  }
  return whole;
}

/** @throws CONFIG_INVALID */
function parseJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new TrainerError('CONFIG_INVALID', `${path}: expected JSON as exmix wrote it; name another --output`, {
      cause,
    });
  }
}

function inputOf(line: string, path: string): string {
  const value = parseJson(line, path);
  if (typeof value === 'object' && value !== null && 'inputs' in value && typeof value.inputs === 'string')
    return value.inputs;
  throw new TrainerError(
    'CONFIG_INVALID',
    `${path}: expected lines with "inputs" as exmix wrote them; name another --output`,
  );
}

async function* inputsOf(path: string): AsyncGenerator<string> {
  let pending = '';
  for await (const chunk of createReadStream(path, 'utf8') as AsyncIterable<string>) {
    const lines = (pending + chunk).split('\n');
    pending = lines.pop()!;
    for (const line of lines) yield inputOf(line, path);
  }
}
