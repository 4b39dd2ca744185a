/**
 * Results of the batches of an evaluation on disk, written as they come: a killed evaluation continues, and a finished one is not done again.
 *
 * A part is the batches of one set and kind. Its file is named by its key, which holds everything that the results depend on but the engine's
 * fingerprint: that is known once a worker is ready, and stands in the first line. A line is one batch. Lines of several writers or in another
 * order say the same. Nothing is synced: a machine that crashes loses lines, not their truth; a line without its end is cut off.
 */
import { createHash } from 'node:crypto';
import { mkdir, open, truncate, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { batchResultSchema, type BatchResult } from '../../evaluation/batch-messages.ts';
import { replaceFile, toStorageError } from '../../shared/atomic-file.ts';
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { readIfThere } from '../../shared/small-file.ts';

const FORMAT = 'exmix-evaluated-batches';
/** Raise it when results of equal keys may differ. */
const VERSION = 1;
/** Largest file of a part, B. */
const MAX_FILE_BYTES = 2_147_483_648;

const headSchema = z.strictObject({
  format: z.literal(FORMAT),
  version: z.literal(VERSION),
  key: z.json(),
  engineFingerprint: z.string(),
});
const lineSchema = z.strictObject({ batch: z.int().nonnegative(), result: batchResultSchema });

export interface PartOfPlan {
  /** Of the file's name. */
  readonly label: string;
  /** All that the results depend on, but the fingerprint of the engine; JSON. */
  readonly key: z.core.util.JSONType;
  /** Examples of each of its batches. */
  readonly batchSizes: readonly number[];
}

interface Part extends PartOfPlan {
  readonly path: string;
  readonly results: (BatchResult | undefined)[];
  /** Undefined: it has no file that counts. */
  engineFingerprint: string | undefined;
  /** Bytes of whole lines; undefined once the file is open. */
  wholeBytes: number;
  file: FileHandle | undefined;
}

export class BatchLog {
  readonly #parts: readonly Part[];

  private constructor(parts: readonly Part[]) {
    this.#parts = parts;
  }

  /** Reads what is there. @throws PATH_UNUSABLE, also for a file that exmix did not write */
  static async open(folder: string, parts: readonly PartOfPlan[]): Promise<BatchLog> {
    await mkdir(folder, { recursive: true }).catch((error: unknown) => {
      throw toStorageError(error, 'create', folder);
    });
    return new BatchLog(await Promise.all(parts.map((part) => readPart(folder, part))));
  }

  /** The engine that made all results, if they are all there and one engine made them. */
  get finishedBy(): string | undefined {
    const [first] = this.#parts;
    const isSame = this.#parts.every(
      ({ results, engineFingerprint }) =>
        !results.includes(undefined) && engineFingerprint === first!.engineFingerprint,
    );
    return isSame ? first?.engineFingerprint : undefined;
  }

  /** Batches with a result, whatever engine made it. */
  get numDone(): number {
    return this.#parts.reduce((sum, { results }) => sum + results.filter((result) => result !== undefined).length, 0);
  }

  /**
   * From here on results are of this engine; those of another one are dropped.
   * @returns the batches without a result: numbers from 0 over all parts @throws PATH_UNUSABLE, DISK_FULL
   */
  async begin(engineFingerprint: string): Promise<readonly number[]> {
    for (const part of this.#parts) await openPart(part, engineFingerprint);
    return this.#parts
      .flatMap(({ results }) => results)
      .flatMap((result, number) => (result === undefined ? [number] : []));
  }

  /** @param number as `begin` counts @throws PATH_UNUSABLE, DISK_FULL */
  async add(number: number, result: BatchResult): Promise<void> {
    const { part, batch } = this.#find(number);
    assertInvariant(part.file !== undefined, 'results are added after begin');
    try {
      await part.file.appendFile(`${JSON.stringify({ batch, result })}\n`);
    } catch (error) {
      throw toStorageError(error, 'append to', part.path);
    }
    part.results[batch] = result;
  }

  /** Of all batches, which must be there. */
  results(): BatchResult[] {
    return this.#parts.flatMap(({ results, path }) =>
      results.map((result, batch) => {
        assertInvariant(result !== undefined, `batch ${batch} of ${path} has its result`);
        return result;
      }),
    );
  }

  async close(): Promise<void> {
    for (const part of this.#parts) {
      await part.file?.close();
      part.file = undefined;
    }
  }

  #find(number: number): { readonly part: Part; readonly batch: number } {
    let first = 0;
    for (const part of this.#parts) {
      if (number < first + part.results.length) return { part, batch: number - first };
      first += part.results.length;
    }
    throw new TrainerError('INTERNAL', `the plan has ${first} batches, found number ${number}`);
  }
}

async function readPart(folder: string, init: PartOfPlan): Promise<Part> {
  const digest = createHash('sha256')
    .update(JSON.stringify([VERSION, init.key]))
    .digest('hex');
  const path = join(folder, `${init.label}.${digest.slice(0, 16)}.jsonl`);
  const results = init.batchSizes.map(() => undefined);
  const part: Part = { ...init, path, results, engineFingerprint: undefined, wholeBytes: 0, file: undefined };
  const text = await readIfThere(path, MAX_FILE_BYTES);
  if (text === undefined) return part;
  const lines = text.split('\n').slice(0, -1); // the last one is empty, or has no end
  const [head, ...rest] = lines;
  if (head === undefined) return part;
  const parsedHead = parse(headSchema, head);
  if (parsedHead === undefined || JSON.stringify(parsedHead.key) !== JSON.stringify(init.key)) throw notOurs(path, 1);
  part.engineFingerprint = parsedHead.engineFingerprint;
  rest.forEach((line, at) => {
    const found = parse(lineSchema, line);
    if (found === undefined || sizeOf(found.result) !== init.batchSizes[found.batch]) throw notOurs(path, at + 2);
    part.results[found.batch] ??= found.result;
  });
  part.wholeBytes = lines.reduce((sum, line) => sum + Buffer.byteLength(line) + 1, 0);
  return part;
}

function parse<Schema extends z.ZodType>(schema: Schema, line: string): z.output<Schema> | undefined {
  try {
    return schema.safeParse(JSON.parse(line)).data;
  } catch {
    return undefined;
  }
}

function sizeOf(result: BatchResult): number {
  return result.kind === 'decode' ? result.outputs.length : result.losses.length;
}

function notOurs(path: string, line: number): TrainerError {
  return new TrainerError(
    'PATH_UNUSABLE',
    `${path}:${line}: expected results of batches as exmix wrote them, found other content; remove the file`,
  );
}

async function openPart(part: Part, engineFingerprint: string): Promise<void> {
  if (part.file !== undefined) return;
  const { path, key } = part;
  try {
    if (part.engineFingerprint === engineFingerprint) await truncate(path, part.wholeBytes);
    else {
      const head = { format: FORMAT, version: VERSION, key, engineFingerprint };
      await replaceFile(path, `${JSON.stringify(head)}\n`);
      part.results.fill(undefined);
      part.engineFingerprint = engineFingerprint;
    }
    part.file = await open(path, 'a');
  } catch (error) {
    throw toStorageError(error, 'write', path);
  }
}
