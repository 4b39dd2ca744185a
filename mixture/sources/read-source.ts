/**
 * A source → batches of records, streaming: one chunk of a file and one record are in memory, whatever the sizes.
 * Hashes the file's own bytes as they pass, so that the caller knows that what was read is what it had identified.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { pipeline, Transform, type Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { hashFile } from '../../shared/atomic-file.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { SourceFile, SourceSpec } from '../tasks/task.ts';
import { DelimitedReader } from './delimited-records.ts';
import { parseJsonLine, parseTextLine } from './line-records.ts';
import { MAX_RECORD_BYTES, type RecordBatch, type SourceRecord, type TextLine } from './source-record.ts';
import { LineSplitter } from './text-lines.ts';

const CHUNK_BYTES = 256 * 1024;

export interface ReadOptions {
  /** Columns that a csv or tsv header must have. */
  readonly requiredFields?: readonly string[];
  /** Larger records are malformed. Default MAX_RECORD_BYTES. */
  readonly maxRecordBytes?: number;
  readonly signal?: AbortSignal;
  /** Called with the bytes of each chunk read from disk, before decompression. */
  readonly onBytes?: (numBytes: number) => void;
  /** Called once a file has been read to its end. @param sha256 hex, of the bytes on disk */
  readonly onFileEnd?: (file: SourceFile, sha256: string) => void;
}

/** What a file is, for manifests: two files of the same identity hold the same bytes. */
export interface SourceFileIdentity {
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * All records of all files, in order.
 * @throws SOURCE_UNREADABLE for a missing file or broken gzip, CONFIG_INVALID for a header without a required column, ABORTED
 */
export async function* readSource(source: SourceSpec, options: ReadOptions = {}): AsyncGenerator<RecordBatch> {
  for (const file of source.files) {
    const splitter = new LineSplitter(options.maxRecordBytes ?? MAX_RECORD_BYTES);
    const toRecords = createRecordParser(source, file, options);
    for await (const chunk of readChunks(file, options)) yield toRecords(splitter.push(chunk), false);
    yield toRecords(splitter.flush(), true);
  }
}

/** Size and hash of a file. @throws SOURCE_UNREADABLE, ABORTED */
export async function identifyFile(
  { path, relativePath }: SourceFile,
  signal?: AbortSignal,
): Promise<SourceFileIdentity> {
  try {
    return { path: relativePath, ...(await hashFile(path, signal)) };
  } catch (error) {
    throw unreadable(relativePath, path, error);
  }
}

/** Sizes of the files, without reading them. @throws SOURCE_UNREADABLE naming all that are missing */
export async function measureSources(sources: readonly SourceSpec[]): Promise<number[][]> {
  const problems: string[] = [];
  const sizes: number[][] = [];
  for (const { files } of sources) {
    const ofSource: number[] = [];
    for (const { path } of files) {
      const found = await stat(path).catch((error: unknown) => toTrainerError(error).message);
      if (typeof found === 'string') problems.push(found);
      else if (!found.isFile()) problems.push(`${path} is not a file`);
      else ofSource.push(found.size);
    }
    sizes.push(ofSource);
  }
  if (problems.length > 0)
    throw new TrainerError(
      'SOURCE_UNREADABLE',
      `${problems.length} source file(s) cannot be read:\n  ${problems.join('\n  ')}`,
    );
  return sizes;
}

type RecordParser = (lines: readonly TextLine[], isEnd: boolean) => SourceRecord[];

function createRecordParser(source: SourceSpec, { relativePath }: SourceFile, options: ReadOptions): RecordParser {
  if (source.format === 'jsonl' || source.format === 'text') {
    const parseLine = source.format === 'jsonl' ? parseJsonLine : parseTextLine;
    return (lines) => lines.map((line) => parseLine(line, relativePath)).filter((record) => record !== undefined);
  }
  const reader = new DelimitedReader({
    file: relativePath,
    delimiter: source.format === 'csv' ? ',' : '\t',
    quotes: source.quotes,
    requiredFields: options.requiredFields ?? [],
    maxRecordLength: options.maxRecordBytes ?? MAX_RECORD_BYTES,
  });
  return (lines, isEnd) => {
    const records = lines.map((line) => reader.push(line));
    if (isEnd) records.push(reader.flush());
    return records.filter((record) => record !== undefined);
  };
}

async function* readChunks(file: SourceFile, { signal, onBytes, onFileEnd }: ReadOptions): AsyncGenerator<Buffer> {
  const hash = createHash('sha256');
  const raw = createReadStream(file.path, { highWaterMark: CHUNK_BYTES, ...(signal && { signal }) });
  const tap = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      hash.update(chunk);
      onBytes?.(chunk.length);
      done(null, chunk);
    },
  });
  const ignore = (): void => undefined; // the error comes out of the last stream, which is iterated
  const stream: Readable = file.path.endsWith('.gz')
    ? pipeline(raw, tap, createGunzip({ chunkSize: CHUNK_BYTES }), ignore)
    : pipeline(raw, tap, ignore);
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) yield chunk;
  } catch (error) {
    throw unreadable(file.relativePath, file.path, error);
  } finally {
    raw.destroy();
  }
  onFileEnd?.(file, hash.digest('hex'));
}

function unreadable(name: string, path: string, error: unknown): TrainerError {
  const cause = toTrainerError(error);
  if (cause.code === 'ABORTED') return cause;
  return new TrainerError('SOURCE_UNREADABLE', `source file ${name} (${path}) cannot be read: ${cause.message}`, {
    cause: error,
  });
}
