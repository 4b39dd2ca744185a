/** A file of a source, ready to be read wherever it lies; its failures name it and become SOURCE_UNREADABLE. */
import { createHash } from 'node:crypto';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { openStorage } from '../../shared/storage/open-storage.ts';
import type { ResolvedFile } from './resolved-source.ts';
import type { SourceAccess } from './source-access.ts';

const SHA256 = 'sha256:';

export interface ByteRange {
  readonly from?: number;
  readonly to?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface SourceFileBytes {
  /** The file's name as in the mixture. */
  readonly name: string;
  readonly bytes: number;
  /** Exactly these bytes. @throws SOURCE_UNREADABLE, ABORTED */
  readRange(from: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  /** A range; all of the file is also checked against its hash, where there is one. @throws SOURCE_UNREADABLE, ABORTED */
  stream(range?: ByteRange): AsyncIterable<Uint8Array>;
}

/** @throws SOURCE_UNREADABLE, ABORTED */
// eslint-disable-next-line @typescript-eslint/require-await
export async function openSourceFile(
  { name, location, bytes, version, storageVersion }: ResolvedFile,
  _access: SourceAccess,
  _signal?: AbortSignal,
): Promise<SourceFileBytes> {
  const storage = openStorage(location);
  return {
    name,
    bytes,
    async readRange(from, length, signal) {
      try {
        return await storage.readRange('', from, length, signal, storageVersion);
      } catch (error) {
        throw unreadable(name, error);
      }
    },
    async *stream({ from = 0, to = bytes, signal } = {}) {
      const isWhole = from === 0 && to === bytes && version.startsWith(SHA256);
      const hash = isWhole ? createHash('sha256') : undefined;
      try {
        for await (const chunk of storage.stream('', {
          from,
          to,
          ...(signal === undefined ? {} : { signal }),
          ...(storageVersion === undefined ? {} : { version: storageVersion }),
        })) {
          hash?.update(chunk);
          yield chunk;
        }
      } catch (error) {
        throw unreadable(name, error);
      }
      const found = hash?.digest('hex');
      if (found !== undefined && `${SHA256}${found}` !== version)
        throw new TrainerError(
          'SOURCE_UNREADABLE',
          `source file ${name} changed while it was read: expected ${version}, found ${SHA256}${found}; start again when it is complete`,
        );
    },
  };
}

/** A failure of a file, with its name; ABORTED and what has a name already stay as they are. */
export function unreadable(name: string, thrown: unknown): TrainerError {
  const error = toTrainerError(thrown);
  if (error.code === 'ABORTED' || error.code === 'SOURCE_UNREADABLE' || error.code === 'CONFIG_INVALID') return error;
  return new TrainerError('SOURCE_UNREADABLE', `source file ${name} cannot be read: ${error.message}`, {
    retryable: error.retryable,
    cause: error,
  });
}
