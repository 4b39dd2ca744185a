/** The texts to answer, one by one: lines, a field of JSONL, or a column of parquet; and how far the input is read. */
import { createReadStream } from 'node:fs';
import { resolve } from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { decodeContent, withLineFeeds } from '../../mixture/sources/decode-content.ts';
import { openParquet } from '../../mixture/sources/parquet/parquet-file.ts';
import { readUnit } from '../../mixture/sources/read-unit.ts';
import type { ResolvedSource } from '../../mixture/sources/resolved-source.ts';
import { createSourceAccess } from '../../mixture/sources/source-access.ts';
import { peekSourceFile, unreadable } from '../../mixture/sources/source-file.ts';
import { readLines } from '../../mixture/tokenizer/line-stream.ts';
import { abortedError } from '../../shared/abort.ts';
import { statIfThere } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';

export const INPUT_FORMATS = ['text', 'jsonl', 'parquet'] as const;

/** Fields of a wrong line that its error names. */
const MAX_NAMED_FIELDS = 8;

export interface InputPlace {
  /** A file; text and JSONL may be packed. Undefined: standard input, not packed. */
  readonly file: string | undefined;
  /** text: a line is an input. jsonl: a line is an object with `field`. parquet: `field` is a column. */
  readonly format: (typeof INPUT_FORMATS)[number];
  readonly field: string;
}

/** The format that a name says. */
export function formatOf(file: string | undefined): InputPlace['format'] {
  if (file?.endsWith('.parquet') === true) return 'parquet';
  return file !== undefined && /\.(?:jsonl|ndjson)(?:\.[a-z0-9]+)?$/u.test(file) ? 'jsonl' : 'text';
}

export class Inputs {
  readonly #place: InputPlace;
  readonly #signal: AbortSignal;
  #numRead = 0;
  #readBytes = 0;
  /** Of the chunks whose texts were all given. */
  #textsPerByte: number | undefined;
  /** Of the file; undefined for standard input and other streams. */
  #allBytes: number | undefined;
  /** Known at the end of the input, of parquet from the start. */
  #numAll: number | undefined;

  constructor(place: InputPlace, signal: AbortSignal) {
    this.#place = place;
    this.#signal = signal;
  }

  /** Texts in the whole input: known, or estimated from the bytes that are read; undefined where nothing tells. */
  get total(): { readonly count: number; readonly isKnown: boolean } | undefined {
    if (this.#numAll !== undefined) return { count: this.#numAll, isKnown: true };
    if (this.#allBytes === undefined || this.#textsPerByte === undefined) return undefined;
    return { count: Math.max(this.#numRead, Math.round(this.#textsPerByte * this.#allBytes)), isKnown: false };
  }

  /** @throws SOURCE_MALFORMED with the line; SOURCE_UNREADABLE; CONFIG_INVALID for a column that the file does not have; ABORTED */
  async *read(): AsyncGenerator<string> {
    const { file, format } = this.#place;
    try {
      const texts = format === 'parquet' ? this.#readColumn() : this.#readLines(format);
      for await (const text of texts) {
        this.#numRead++;
        yield text;
      }
    } catch (cause) {
      if (this.#signal.aborted) throw abortedError('reading the inputs', this.#signal);
      if (cause instanceof TrainerError) throw cause;
      const where = file ?? 'standard input';
      throw new TrainerError('SOURCE_UNREADABLE', `cannot read ${where}: ${(cause as Error).message}`, { cause });
    }
    this.#numAll = this.#numRead;
  }

  async *#readLines(format: 'text' | 'jsonl'): AsyncGenerator<string> {
    const { file, field } = this.#place;
    const where = file ?? 'standard input';
    let number = 0;
    for await (const line of readLines(file === undefined ? this.#open(process.stdin) : this.#decode(file), where)) {
      number++;
      yield format === 'text' ? line : textOf(line, field, `${where}, line ${number}`);
    }
  }

  async *#decode(file: string): AsyncGenerator<Uint8Array> {
    const found = await statIfThere(file);
    if (found?.isFile() === true) this.#allBytes = found.size;
    const { layout, chunks } = await decodeContent(this.#count(this.#open(createReadStream(file))), file, 'text');
    yield* layout === 'cr-lines' ? withLineFeeds(chunks) : chunks;
  }

  /** A stream that the signal ends, also while nothing comes. */
  #open(stream: Readable): AsyncIterable<Uint8Array> {
    return addAbortSignal(this.#signal, stream) as AsyncIterable<Uint8Array>;
  }

  async *#count(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks) {
      if (this.#numRead > 0) this.#textsPerByte = this.#numRead / this.#readBytes;
      this.#readBytes += chunk.length;
      yield chunk;
    }
  }

  async *#readColumn(): AsyncGenerator<string> {
    const { file, field } = this.#place;
    if (file === undefined)
      throw new TrainerError('CONFIG_INVALID', 'parquet: expected a file that can be read from its end; give --input');
    const access = createSourceAccess();
    const signal = this.#signal;
    const location = resolve(file);
    // No hash of the file is needed: its version is that of the storage, which is checked at each read.
    const { bytes, version } = await openStorage(location)
      .head('', signal)
      .catch((error: unknown) => {
        throw unreadable(file, error);
      });
    const part = { name: file, location, bytes, version, storageVersion: version };
    const source: ResolvedSource = { format: 'parquet', quotes: false, files: [part] };
    const { groups } = await openParquet(await peekSourceFile(source, part, access), { signal });
    this.#numAll = groups.at(-1)?.to ?? 0;
    const unit = { file: 0, part: { kind: 'whole' as const }, bytes };
    for await (const records of readUnit(source, unit, { access, requiredFields: [field], signal }))
      for (const record of records) {
        const where = `${file}, row ${record.row}`;
        if (!record.ok) throw new TrainerError('SOURCE_MALFORMED', `${where}: ${record.reason}`);
        yield textIn(record.fields, field, where);
      }
  }
}

function textOf(line: string, field: string, where: string): string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new TrainerError(
      'SOURCE_MALFORMED',
      `${where}: expected a JSON object, found ${JSON.stringify(line.slice(0, 60))}`,
      {
        cause,
      },
    );
  }
  return textIn(value, field, where);
}

function textIn(value: unknown, field: string, where: string): string {
  const text = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[field] : undefined;
  if (typeof text === 'string') return text;
  const fields = typeof value === 'object' && value !== null ? Object.keys(value).slice(0, MAX_NAMED_FIELDS) : [];
  const found = text !== undefined ? JSON.stringify(text).slice(0, 60) : `fields ${fields.join(', ') || 'of none'}`;
  throw new TrainerError(
    'SOURCE_MALFORMED',
    `${where}: expected text in field "${field}", found ${found}; name another one by --field`,
  );
}
