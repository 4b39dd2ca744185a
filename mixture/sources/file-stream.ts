/** All bytes of a source file in chunks; a file whose name ends in `.gz` is decompressed. */
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { UnitOptions } from './read-options.ts';
import { unreadable, type SourceFileBytes } from './source-file.ts';

const CHUNK_BYTES = 256 * 1024;

export function isCompressed({ name }: { readonly name: string }): boolean {
  return name.endsWith('.gz');
}

/** @throws SOURCE_UNREADABLE, also for broken gzip; ABORTED */
export async function* streamBytes(
  file: SourceFileBytes,
  { signal, onBytes }: Pick<UnitOptions, 'signal' | 'onBytes'>,
): AsyncGenerator<Uint8Array> {
  const raw = tap(file.stream({ signal }), onBytes);
  if (!isCompressed(file)) {
    yield* raw;
    return;
  }
  const readable = Readable.from(raw, { objectMode: false, highWaterMark: CHUNK_BYTES });
  const ignore = (): void => undefined; // the error comes out of the last stream, which is iterated
  const stream: AsyncIterable<Buffer> = pipeline(readable, createGunzip({ chunkSize: CHUNK_BYTES }), ignore);
  try {
    yield* stream;
  } catch (error) {
    throw unreadable(file.name, error);
  } finally {
    readable.destroy();
  }
}

async function* tap(
  chunks: AsyncIterable<Uint8Array>,
  onBytes: (numBytes: number) => void,
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    onBytes(chunk.length);
    yield chunk;
  }
}
