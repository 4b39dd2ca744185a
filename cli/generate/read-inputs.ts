/** The texts to answer, one by one, from a stream of lines. */
import { createReadStream } from 'node:fs';
import { decodeContent, withLineFeeds } from '../../mixture/sources/decode-content.ts';
import { readLines } from '../../mixture/tokenizer/line-stream.ts';
import { TrainerError } from '../../shared/errors.ts';

export interface InputPlace {
  /** A file, packed or not; undefined: standard input. */
  readonly file: string | undefined;
  /** text: a line is an input. jsonl: a line is an object with `field`. */
  readonly format: 'text' | 'jsonl';
  readonly field: string;
}

/** The format that a name says. */
export function formatOf(file: string | undefined): InputPlace['format'] {
  return file !== undefined && /\.(?:jsonl|ndjson)(?:\.[a-z0-9]+)?$/u.test(file) ? 'jsonl' : 'text';
}

/** @throws SOURCE_MALFORMED with the line; SOURCE_UNREADABLE */
export async function* readInputs({ file, format, field }: InputPlace): AsyncGenerator<string> {
  const where = file ?? 'standard input';
  let number = 0;
  for await (const line of readLines(file === undefined ? process.stdin : decodedFile(file), where)) {
    number++;
    yield format === 'text' ? line : textOf(line, field, `${where}, line ${number}`);
  }
}

async function* decodedFile(file: string): AsyncGenerator<Uint8Array> {
  try {
    const { layout, chunks } = await decodeContent(createReadStream(file), file, 'text');
    yield* layout === 'cr-lines' ? withLineFeeds(chunks) : chunks;
  } catch (cause) {
    if (cause instanceof TrainerError) throw cause;
    throw new TrainerError('SOURCE_UNREADABLE', `cannot read ${file}: ${(cause as Error).message}`, { cause });
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
  const text = typeof value === 'object' && value !== null ? (value as Record<string, unknown>)[field] : undefined;
  if (typeof text === 'string') return text;
  throw new TrainerError(
    'SOURCE_MALFORMED',
    `${where}: expected text in field "${field}"; name another one by --field`,
  );
}
