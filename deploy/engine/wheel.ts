/**
 * Reads a wheel: its metadata, and single files, each checked against the wheel's RECORD while it is extracted. A wheel is a zip file
 * (PEP 427). Its facts come from `.dist-info`, not from its file name.
 */
import { createHash } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { openPromise, type Entry, type ZipFile } from 'yauzl';
import { systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import { TrainerError } from '../../shared/errors.ts';
import { parseMetadata, parseRecord, parseTags, type RecordRow, type WheelMetadata } from './wheel-metadata.ts';

/** Files of `.dist-info` are far smaller: RECORD of TensorFlow has 1.7 MB. */
const MAX_TEXT_BYTES = 32 * 1024 * 1024;

/** A file of a wheel: its path there, size and SHA-256. */
export interface WheelFile extends RecordRow {
  readonly path: string;
}

export class Wheel {
  readonly path: string;
  readonly metadata: WheelMetadata;
  readonly tags: readonly string[];
  /** SHA-256 of RECORD, hex; identifies the content of the whole wheel. */
  readonly recordSha256: string;
  readonly #zip: ZipFile;
  readonly #entries: ReadonlyMap<string, Entry>;
  readonly #record: ReadonlyMap<string, RecordRow>;

  private constructor(path: string, zip: ZipFile, entries: ReadonlyMap<string, Entry>, texts: DistInfo) {
    const where = basename(path);
    this.path = path;
    this.#zip = zip;
    this.#entries = entries;
    this.metadata = parseMetadata(texts.METADATA, where);
    this.tags = parseTags(texts.WHEEL);
    this.#record = parseRecord(texts.RECORD, where);
    this.recordSha256 = createHash('sha256').update(texts.RECORD).digest('hex');
  }

  /** @throws PATH_UNUSABLE; WHEEL_INVALID if it is truncated, not a zip file, or has no `.dist-info` */
  static async open(path: string): Promise<Wheel> {
    let zip: ZipFile;
    try {
      zip = await openPromise(path, { lazyEntries: true, autoClose: false });
    } catch (error) {
      if (systemCode(error) !== undefined) throw toStorageError(error, 'read', path);
      throw invalid(path, 'not a whole zip file', error);
    }
    try {
      const entries = new Map<string, Entry>();
      for await (const entry of zip.eachEntry()) entries.set(entry.fileName, entry);
      return new Wheel(path, zip, entries, await readDistInfo(path, zip, entries));
    } catch (error) {
      zip.close();
      throw error instanceof TrainerError ? error : invalid(path, 'its directory cannot be read', error);
    }
  }

  /** The files whose path `isWanted` accepts. @throws WHEEL_INVALID if RECORD lacks one */
  files(isWanted: (path: string) => boolean): WheelFile[] {
    const wanted = [...this.#entries.keys()].filter((path) => !path.endsWith('/') && isWanted(path)).sort();
    return wanted.map((path) => {
      const row = this.#record.get(path);
      if (row === undefined) throw invalid(this.path, `its RECORD has no SHA-256 of ${path}`);
      return { path, ...row };
    });
  }

  /**
   * Writes one file and fsyncs it.
   * @param onBytes called with the number of new bytes
   * @throws WHEEL_INVALID if the bytes differ from RECORD; DISK_FULL, PATH_UNUSABLE, ABORTED
   */
  async extract(
    file: WheelFile,
    target: string,
    { mode = 0o644, onBytes, signal }: { mode?: number; onBytes?: (bytes: number) => void; signal?: AbortSignal } = {},
  ): Promise<void> {
    throwIfAborted(signal, `unpacking ${file.path}`);
    const entry = this.#entries.get(file.path);
    if (entry === undefined) throw new TrainerError('INTERNAL', `${this.path} has no ${file.path}`);
    const hash = createHash('sha256');
    let bytes = 0;
    const meter = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        bytes += chunk.length;
        onBytes?.(chunk.length);
        done(null, chunk);
      },
    });
    try {
      await mkdir(dirname(target), { recursive: true });
      const stream = await this.#zip.openReadStreamPromise(entry);
      await pipeline(stream, meter, createWriteStream(target, { flags: 'wx', mode, flush: true }), { signal });
    } catch (error) {
      await rm(target, { force: true });
      throwIfAborted(signal, `unpacking ${file.path}`);
      if (systemCode(error)?.startsWith('E') === true && !isZlibError(error))
        throw toStorageError(error, 'write', target);
      throw invalid(this.path, `${file.path} cannot be unpacked`, error);
    }
    const sha256 = hash.digest('hex');
    if (bytes === file.bytes && sha256 === file.sha256) return;
    await rm(target, { force: true });
    throw invalid(
      this.path,
      `${file.path}: expected ${file.bytes} B with SHA-256 ${file.sha256.slice(0, 12)}… by its RECORD, ` +
        `got ${bytes} B with ${sha256.slice(0, 12)}…`,
    );
  }

  close(): void {
    this.#zip.close();
  }
}

interface DistInfo {
  readonly METADATA: string;
  readonly WHEEL: string;
  readonly RECORD: string;
}

async function readDistInfo(path: string, zip: ZipFile, entries: ReadonlyMap<string, Entry>): Promise<DistInfo> {
  const read = async (name: keyof DistInfo): Promise<string> => {
    const found = [...entries.values()].filter(
      ({ fileName }) => /^[^/]+\.dist-info\/(.+)$/u.exec(fileName)?.[1] === name,
    );
    const [entry] = found;
    if (entry === undefined || found.length > 1)
      throw invalid(path, `expected one .dist-info/${name}, got ${found.length}: this is not a wheel`);
    return readText(path, await zip.openReadStreamPromise(entry));
  };
  return { METADATA: await read('METADATA'), WHEEL: await read('WHEEL'), RECORD: await read('RECORD') };
}

async function readText(path: string, stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_TEXT_BYTES) throw invalid(path, `a file of .dist-info is larger than ${MAX_TEXT_BYTES} B`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Codes: Z_DATA_ERROR etc. from zlib, ERR_… from Node's streams, ENOSPC etc. from the system. */
function isZlibError(error: unknown): boolean {
  return systemCode(error)?.startsWith('ERR_') === true;
}

function invalid(path: string, what: string, cause?: unknown): TrainerError {
  const reason = cause instanceof Error ? ` (${cause.message})` : '';
  return new TrainerError(
    'WHEEL_INVALID',
    `${path}: ${what}${reason}; the file is damaged or not a wheel: download it again`,
    { cause },
  );
}
