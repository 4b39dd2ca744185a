/**
 * How much room a preparation will take, before it takes it. An estimate: sizes of sources times what such sources usually become.
 *
 * A token of English text is about 4.2 bytes and is stored in 2 (4 for a vocabulary above 65,536). Compressed text is about 3 times
 * smaller than it is, parquet about 2 times; columns that no template reads are not known of, so sources with many are overestimated.
 */
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { isCompressed } from '../sources/source-file.ts';
import type { ResolvedSource } from '../sources/resolved-source.ts';

const BYTES_PER_TOKEN = 4.2;
const COMPRESSED = 3;
const PARQUET = 2;

/** @param bytes of the source that are still to be prepared @returns bytes on disk, about */
export function estimateRoom(source: ResolvedSource, bytes: number, tokenBytes: 2 | 4): number {
  const expansion = source.format === 'parquet' ? PARQUET : source.files.some(isCompressed) ? COMPRESSED : 1;
  return Math.ceil(((bytes * expansion) / BYTES_PER_TOKEN) * tokenBytes);
}

/** Bytes free for a folder, or for what is nearest above it. @throws PATH_UNUSABLE */
export async function freeRoom(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch (error) {
    if (systemCode(error) === 'ENOENT' && dirname(folder) !== folder) return freeRoom(dirname(folder));
    throw toStorageError(error, 'look at', folder);
  }
}
