/**
 * Transforms lines from a stream of bytes to a stream of text, with back-pressure.
 *
 * Assumption: UTF-8; lines end with \n (a \r before it is dropped); the last line may lack it.
 */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { abortable } from '../../shared/abort.ts';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';

/** Longest line, bytes. */
export const MAX_LINE_BYTES = 64 * 1024 * 1024;

const NEWLINE = 0x0a;

/**
 * The decoded lines of a stream. Memory holds one line and one chunk.
 * @param where names the stream in errors
 * @throws SOURCE_MALFORMED with the line number, for a line over MAX_LINE_BYTES or not in UTF-8
 */
export async function* readLines(input: AsyncIterable<Uint8Array | string>, where: string): AsyncGenerator<string> {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }); // U+FEFF within the stream is text
  let lineNumber = 1;
  let pending: Uint8Array[] = [];
  let pendingBytes = 0;
  const malformed = (problem: string, cause?: unknown): TrainerError =>
    new TrainerError('SOURCE_MALFORMED', `${where}, line ${lineNumber}: ${problem}`, { cause });
  const add = (part: Uint8Array): void => {
    pendingBytes += part.length;
    if (pendingBytes > MAX_LINE_BYTES) throw malformed(`longer than ${MAX_LINE_BYTES} B`);
    pending.push(part);
  };
  const endLine = (): string => {
    const bytes = pending.length === 1 ? pending[0]! : Buffer.concat(pending);
    pending = [];
    pendingBytes = 0;
    try {
      const text = decoder.decode(bytes);
      const line = lineNumber === 1 ? text.replace(/^\uFEFF/u, '') : text; // the mark of a file
      lineNumber++;
      return line.endsWith('\r') ? line.slice(0, -1) : line;
    } catch (cause) {
      throw malformed('not valid UTF-8', cause);
    }
  };
  for await (const given of input) {
    const chunk = typeof given === 'string' ? Buffer.from(given) : given;
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      add(chunk.subarray(start, end));
      yield endLine();
      start = end + 1;
    }
    if (start < chunk.length) add(chunk.subarray(start));
  }
  if (pendingBytes > 0) yield endLine();
}

/**
 * Writes one line for each line read, until the input ends or the reader of the output goes away (e.g. `head`; this is
 * not an error).
 * @param transform gets a line and its number, from 1. If it throws, the work ends; earlier lines are written
 * @param signal aborts the wait for the output; the caller aborts the input
 * @throws SOURCE_MALFORMED (readLines), DISK_FULL or PATH_UNUSABLE if the output cannot be written, AbortError
 */
export async function transformLines(
  input: AsyncIterable<Uint8Array | string>,
  output: Writable,
  transform: (line: string, lineNumber: number) => string,
  { where, signal }: { readonly where: string; readonly signal: AbortSignal },
): Promise<void> {
  const state: { failure?: NodeJS.ErrnoException } = {};
  // The listener stays: without it, a late write error would end the process.
  output.on('error', (failure) => (state.failure = failure));
  try {
    let lineNumber = 0;
    for await (const line of readLines(input, where)) {
      if (state.failure !== undefined) break;
      if (!output.write(`${transform(line, ++lineNumber)}\n`)) await once(output, 'drain', { signal });
    }
    // Writes are in order: behind this one, all lines are written.
    const written = new Promise<void>((resolve) => output.write('', () => resolve()));
    if (state.failure === undefined) await abortable(written, signal, 'writing the output');
  } catch (thrown) {
    if (thrown !== state.failure) throw thrown;
  }
  if (state.failure !== undefined && state.failure.code !== 'EPIPE')
    throw toStorageError(state.failure, 'write', 'the output');
}

/** The JSON value of a line. @throws SOURCE_MALFORMED unless `isExpected` accepts it */
export function parseJsonLine<T>(
  line: string,
  lineNumber: number,
  expected: string,
  isExpected: (value: unknown) => value is T,
): T {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    const shown = JSON.stringify(line.slice(0, 80));
    throw new TrainerError('SOURCE_MALFORMED', `line ${lineNumber}: expected ${expected}, found ${shown}`, { cause });
  }
  if (!isExpected(value)) {
    const shown = JSON.stringify(value).slice(0, 80);
    throw new TrainerError('SOURCE_MALFORMED', `line ${lineNumber}: expected ${expected}, found ${shown}`);
  }
  return value;
}
