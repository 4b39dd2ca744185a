/**
 * Estimates the disk space that preparing needs, from the sizes of the sources.
 *
 * Assumptions: a token of English text is about 4.2 bytes, and is stored in 2 bytes (4 for a vocabulary above 65,536).
 * Decompressed text is about 3 times as large as compressed text, and 2 times as large as parquet. Columns that no
 * template reads are not subtracted, so sources with many of them are overestimated.
 */
import { statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { systemCode, toStorageError } from '../../shared/atomic-file.ts';
import { hasCompressedName } from '../sources/source-file.ts';
import type { ResolvedSource } from '../sources/resolved-source.ts';

const BYTES_PER_TOKEN = 4.2;
const COMPRESSED = 3;
const PARQUET = 2;

/** @param bytes of the source that are not prepared yet @returns about how many bytes on disk */
export function estimateRoom(source: ResolvedSource, bytes: number, tokenBytes: 2 | 4): number {
  const expansion = source.format === 'parquet' ? PARQUET : source.files.some(hasCompressedName) ? COMPRESSED : 1;
  return Math.ceil(((bytes * expansion) / BYTES_PER_TOKEN) * tokenBytes);
}

/** Free bytes on the disk of a folder, or of its nearest existing parent. @throws PATH_UNUSABLE */
export async function freeRoom(folder: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(folder);
    return bavail * bsize;
  } catch (error) {
    if (systemCode(error) === 'ENOENT' && dirname(folder) !== folder) return freeRoom(dirname(folder));
    throw toStorageError(error, 'inspect', folder);
  }
}
