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
  readonly #settings: object;
  /** Engine of the lines that are there; undefined: there is no file. */
  readonly #engine: string | undefined;
  /** Inputs of the lines that the file had, oldest first. */
  readonly earlier: AsyncIterable<string>;

  private constructor(path: string, settings: object, engine: string | undefined) {
    this.#path = path;
    this.#settings = settings;
    this.#engine = engine;
    this.earlier = engine === undefined ? none() : inputsOf(path);
  }

  /**
   * Looks at a file that gets more lines, and cuts a last line that is not whole.
   * @param settings what the lines depend on besides the engine's fingerprint; plain JSON
   * @throws CONFIG_INVALID if the file was made with other settings; PATH_UNUSABLE
   */
  static async open(path: string, settings: object): Promise<OutputFile> {
    const sidecar = sidecarOf(path);
    const [there, text] = [await statIfThere(path), await readIfThere(sidecar)];
    if (there === undefined) return new OutputFile(path, settings, undefined);
    if (text === undefined) {
      throw new TrainerError(
        'CONFIG_INVALID',
        `${path} exists, and exmix did not make it: ${sidecar} is missing; name another --output`,
      );
    }
    const found = { engineFingerprint: undefined, ...(parseJson(text, sidecar) as object | null) };
    const { engineFingerprint, ...before } = found;
    if (typeof engineFingerprint !== 'string' || !isDeepStrictEqual(before, JSON.parse(JSON.stringify(settings))))
      throw otherSettings(path);
    const wholeBytes = await countWholeLines(path);
    if (wholeBytes < there.size) await truncate(path, wholeBytes);
    return new OutputFile(path, settings, engineFingerprint);
  }

  /** Call it before the first line. @throws CONFIG_INVALID if another engine made the lines that are there; PATH_UNUSABLE, DISK_FULL */
  async begin(engineFingerprint: string): Promise<void> {
    if (this.#engine === engineFingerprint) return;
    if (this.#engine !== undefined) throw otherSettings(this.#path);
    await replaceFile(sidecarOf(this.#path), `${JSON.stringify({ ...this.#settings, engineFingerprint }, null, 2)}\n`);
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

function sidecarOf(path: string): string {
  return `${path}.settings.json`;
}

function otherSettings(path: string): TrainerError {
  return new TrainerError(
    'CONFIG_INVALID',
    `${path} was made with other settings, another model or another engine, see ${sidecarOf(path)}; remove both files, or name another --output`,
  );
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
