/**
 * The bytes of a file → decoded bytes and their layout, as a stream: gzip, zlib, zstd and UTF-16 with a mark are decoded,
 * also inside one another. The first bytes decide, never the name. Refused kinds are SOURCE_UNREADABLE with a remedy.
 *
 * Memory: the head, one chunk, and the window of zstd (at most MAX_WINDOW_BYTES).
 * Assumption: the checksum at the end of a zstd frame is not verified (fzstd does not); lengths and codes are.
 */
import { pipeline, Readable, type Transform } from 'node:stream';
import { createGunzip, createInflate } from 'node:zlib';
import { Decompress } from 'fzstd';
import { TrainerError } from '../../shared/errors.ts';
import type { SourceFormat } from '../tasks/task.ts';
import {
  describeRefused,
  HEAD_BYTES,
  identifyContent,
  identifyLayout,
  isRefused,
  type ContentKind,
  type EncodedKind,
  type LineFormat,
  type TextLayout,
} from './identify-content.ts';
import { hasCompressedName, unreadable } from './source-file.ts';

/** Bytes of a decompressed chunk. */
const CHUNK_BYTES = 256 * 1024;
/** Encodings inside one another: gzip of gzip of UTF-16. */
const MAX_ENCODINGS = 3;
/** The default bound of the zstd tool. */
const MAX_WINDOW_BYTES = 128 * 1024 * 1024;
/** Compressed bytes that are decoded at once. A block of 128 KiB may take 4 B, so the result has at most 32 MiB. */
const ZSTD_STEP_BYTES = 1024;

export interface DecodedContent {
  readonly layout: TextLayout;
  readonly chunks: AsyncGenerator<Uint8Array>;
}

/**
 * @param raw the bytes of the file from its start; closed if this fails
 * @throws SOURCE_UNREADABLE for a refused kind, another format or damaged data; ABORTED
 */
export async function decodeContent(
  raw: AsyncIterable<Uint8Array>,
  name: string,
  format: Exclude<SourceFormat, 'parquet'>,
): Promise<DecodedContent> {
  let chunks = raw;
  let close: (() => Promise<unknown>) | undefined;
  const kinds: ContentKind[] = [];
  try {
    for (;;) {
      const peeked = await peekHead(chunks);
      close = peeked.close;
      const kind = identifyContent(peeked.head);
      if (kinds.length === 0 && hasCompressedName({ name }) && kind === 'other') throw wrongName(name);
      if (!isEncoded(kind)) {
        checkContent(kind, kinds, name, format);
        const layout = format === 'tfrecord' ? 'lines' : identifyLayout(peeked.head, format);
        return { layout, chunks: peeked.chunks };
      }
      if (kinds.push(kind) > MAX_ENCODINGS) throw unreadableAs(name, `it is ${kinds.join(' of ')}`, 'unpack it');
      chunks = decode(kind, peeked.chunks, name);
    }
  } catch (error) {
    await close?.();
    throw unreadable(name, error);
  }
}

/** Whether lines of a file can be read from any byte. @param head of the raw file */
export function isPlainLines(head: Uint8Array, format: LineFormat): boolean {
  return identifyContent(head) === 'other' && identifyLayout(head, format) === 'lines';
}

/** What a file is if it is surely not parquet. @param head of the file */
export function describeOther(head: Uint8Array): { readonly what: string; readonly remedy: string } | undefined {
  const kind = identifyContent(head);
  if (kind === 'other' || kind === 'parquet') return undefined;
  if (isRefused(kind)) return describeRefused(kind);
  if (kind === 'tfrecord') return { what: 'a TFRecord file', remedy: 'give its format: tfrecord' };
  if (kind === 'utf-16le' || kind === 'utf-16be') return { what: 'text in UTF-16', remedy: 'give its format' };
  return { what: `data compressed by ${kind}`, remedy: `unpack it: ranges of a parquet file are read` };
}

function isEncoded(kind: ContentKind): kind is EncodedKind {
  return kind === 'gzip' || kind === 'zlib' || kind === 'zstd' || kind === 'utf-16le' || kind === 'utf-16be';
}

function checkContent(
  kind: Exclude<ContentKind, EncodedKind>,
  encodings: readonly ContentKind[],
  name: string,
  format: SourceFormat,
): void {
  if (kind === 'other' || kind === format) return;
  const { what, remedy } = isRefused(kind)
    ? describeRefused(kind)
    : { what: `a ${kind} file`, remedy: `give its format: ${kind}` };
  const inside = encodings.length === 0 ? '' : `, inside ${encodings.join(' of ')}`;
  throw unreadableAs(name, `expected ${format}, found ${what}${inside}`, remedy);
}

function wrongName(name: string): TrainerError {
  return unreadableAs(name, 'its name is that of a compressed file, but its bytes are not compressed', 'rename it');
}

function unreadableAs(name: string, problem: string, remedy: string): TrainerError {
  return new TrainerError('SOURCE_UNREADABLE', `source file ${name} cannot be read: ${problem}; ${remedy}`);
}

interface Peeked {
  readonly head: Uint8Array;
  /** All chunks, the first ones too. */
  readonly chunks: AsyncGenerator<Uint8Array>;
  /** Closes the source if `chunks` is not read. */
  readonly close: () => Promise<unknown>;
}

async function peekHead(chunks: AsyncIterable<Uint8Array>): Promise<Peeked> {
  const iterator = chunks[Symbol.asyncIterator]();
  const first: Uint8Array[] = [];
  let length = 0;
  while (length < HEAD_BYTES) {
    const next = await iterator.next();
    if (next.done === true) break;
    first.push(next.value);
    length += next.value.length;
  }
  async function* all(): AsyncGenerator<Uint8Array> {
    try {
      for (const chunk of first.splice(0)) yield chunk;
      for (;;) {
        const next = await iterator.next();
        if (next.done === true) return;
        yield next.value;
      }
    } finally {
      await iterator.return?.();
    }
  }
  return {
    head: Buffer.concat(first).subarray(0, HEAD_BYTES),
    chunks: all(),
    close: async () => iterator.return?.(),
  };
}

function decode(kind: EncodedKind, chunks: AsyncGenerator<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  switch (kind) {
    case 'gzip':
      return through(createGunzip({ chunkSize: CHUNK_BYTES }), chunks, name);
    case 'zlib':
      return through(createInflate({ chunkSize: CHUNK_BYTES }), chunks, name);
    case 'zstd':
      return unzstd(chunks, name);
    case 'utf-16le':
    case 'utf-16be':
      return toUtf8(chunks, name, kind === 'utf-16be');
  }
}

async function* through(
  transform: Transform,
  chunks: AsyncGenerator<Uint8Array>,
  name: string,
): AsyncGenerator<Uint8Array> {
  const readable = Readable.from(chunks, { objectMode: false, highWaterMark: CHUNK_BYTES });
  const ignore = (): void => undefined; // the last stream, which is iterated, throws the error
  const stream: AsyncIterable<Buffer> = pipeline(readable, transform, ignore);
  try {
    yield* stream;
  } catch (error) {
    throw unreadable(name, error);
  } finally {
    readable.destroy();
  }
}

async function* unzstd(chunks: AsyncGenerator<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  let blocks: Uint8Array[] = [];
  const decompress = new Decompress((block) => {
    if (block.length > 0) blocks.push(block);
  });
  const damaged = (cause: unknown): TrainerError =>
    new TrainerError(
      'SOURCE_UNREADABLE',
      `source file ${name} cannot be read: its zstd data is damaged or truncated: ${cause instanceof Error ? cause.message : String(cause)}`,
      { cause },
    );
  const push = (part: Uint8Array, isLast: boolean): void => {
    try {
      decompress.push(part, isLast);
    } catch (error) {
      throw damaged(error);
    }
  };
  let isFirst = true;
  for await (const chunk of chunks) {
    if (isFirst) checkWindow(chunk, name);
    isFirst = false;
    for (let at = 0; at < chunk.length; at += ZSTD_STEP_BYTES) {
      push(chunk.subarray(at, at + ZSTD_STEP_BYTES), false);
      const decoded = blocks;
      blocks = [];
      yield* decoded;
    }
  }
  push(new Uint8Array(0), true);
  yield* blocks;
}

/** @throws SOURCE_UNREADABLE if the decoder would need a larger window */
function checkWindow(start: Uint8Array, name: string): void {
  const flags = start[4] ?? 0;
  const descriptor = start[5] ?? 0;
  const isSkippable = start[0] !== 0x28;
  if (isSkippable || (flags & 0x20) !== 0) return; // a single segment: no larger than its content
  const base = 2 ** (10 + (descriptor >> 3));
  const windowBytes = base + (base / 8) * (descriptor & 7);
  if (windowBytes > MAX_WINDOW_BYTES)
    throw unreadableAs(
      name,
      `its zstd window has ${windowBytes} B, at most ${MAX_WINDOW_BYTES} B are kept`,
      'compress it without --long, or with gzip',
    );
}

/** UTF-16 with its mark → UTF-8. A lone surrogate becomes bytes that are not UTF-8, so its line is malformed. */
async function* toUtf8(
  chunks: AsyncGenerator<Uint8Array>,
  name: string,
  isBigEndian: boolean,
): AsyncGenerator<Uint8Array> {
  let pending: Buffer = Buffer.alloc(0);
  let isStart = true;
  for await (const chunk of chunks) {
    const bytes = Buffer.concat([pending, chunk]);
    let end = bytes.length & ~1;
    // A high surrogate waits for its partner.
    if (end >= 2 && (bytes[isBigEndian ? end - 2 : end - 1]! & 0xfc) === 0xd8) end -= 2;
    const units = Buffer.from(bytes.subarray(0, end));
    pending = bytes.subarray(end);
    if (end === 0) continue;
    const text = (isBigEndian ? units.swap16() : units).toString('utf16le');
    yield encodeUtf8(isStart ? text.replace(/^\uFEFF/u, '') : text);
    isStart = false;
  }
  if (pending.length % 2 !== 0)
    throw unreadableAs(name, 'it is UTF-16 and ends inside a character', 'download or write it again');
  if (pending.length > 0) yield encodeUtf8((isBigEndian ? pending.swap16() : pending).toString('utf16le'));
}

function encodeUtf8(text: string): Uint8Array {
  if (text.isWellFormed()) return Buffer.from(text, 'utf8');
  return Buffer.concat(
    text
      .split(/(\p{Surrogate})/u)
      .map((part, i) => (i % 2 === 1 ? Buffer.of(0xed, 0xa0, 0x80) : Buffer.from(part, 'utf8'))),
  );
}

/** Each CR that is not part of CRLF becomes LF. */
export async function* withLineFeeds(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  let endsWithCr = false;
  for await (const chunk of chunks) {
    const bytes: Buffer = endsWithCr ? Buffer.concat([Buffer.of(CR), chunk]) : Buffer.from(chunk);
    endsWithCr = bytes.at(-1) === CR;
    const whole = endsWithCr ? bytes.subarray(0, -1) : bytes;
    for (let at = whole.indexOf(CR); at !== -1; at = whole.indexOf(CR, at + 1))
      if (whole[at + 1] !== LF) whole[at] = LF;
    yield whole;
  }
  if (endsWithCr) yield Buffer.of(LF);
}

const LF = 10;
const CR = 13;
