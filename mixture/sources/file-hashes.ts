/**
 * SHA-256 of local files, stored for large ones: hashing 300 GB takes minutes, and every process of a job array does
 * it.
 *
 * Assumption: a file has the same bytes if its inode, size, time of writing and time of change are the same. This holds
 * only if the last change was some seconds before hashing, because a file system's clock may be that coarse. Small
 * files are always hashed.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { z } from 'zod';
import { hashFile } from '../../shared/atomic-file.ts';
import { readSmallFile } from '../../shared/small-file.ts';
import { LocalStorage } from '../../shared/storage/local-storage.ts';
import { changed } from '../../shared/storage/storage-errors.ts';

/** Hashes of smaller files are not stored, bytes. */
const REMEMBERED_BYTES = 16 * 1024 * 1024;
/** If a file changed less than this before hashing, its hash is not stored, ms. */
const SETTLED_MS = 3_000;

const entrySchema = z.strictObject({
  path: z.string(),
  stamp: z.string(),
  sha256: z.string().regex(/^[0-9a-f]{64}$/u),
});

/**
 * @param path absolute
 * @param storageVersion the version when the source was resolved; another version now is STORAGE_CHANGED
 * @returns `sha256:…`
 * @throws PATH_UNUSABLE, STORAGE_NOT_FOUND, STORAGE_CHANGED, ABORTED
 */
export async function hashLocalFile(
  path: string,
  storageVersion: string,
  cacheFolder: string,
  signal?: AbortSignal,
): Promise<string> {
  const storage = new LocalStorage(path);
  const cache = new LocalStorage(cacheFolder);
  const startedMs = Date.now();
  const stats = await stat(path, { bigint: true });
  const stamp = `${stats.dev}-${stats.ino}-${stats.size}-${stats.mtimeNs}-${stats.ctimeNs}`;
  const isLarge = stats.size >= REMEMBERED_BYTES;
  const entryKey = `hashes/${createHash('sha256').update(path).digest('hex')}.json`;
  const known = isLarge ? await readEntry(cache.placeOf(entryKey)) : undefined;
  if (known?.path === path && known.stamp === stamp) return `sha256:${known.sha256}`;
  const { sha256 } = await hashFile(path, signal);
  const after = await storage.head('', signal);
  if (after.version !== storageVersion) throw changed(path, storageVersion, after.version);
  if (isLarge && startedMs - Number(stats.ctimeMs) > SETTLED_MS) {
    await cache.put(entryKey, Buffer.from(JSON.stringify({ path, stamp, sha256 })));
  }
  return `sha256:${sha256}`;
}

async function readEntry(path: string): Promise<z.infer<typeof entrySchema> | undefined> {
  try {
    return entrySchema.safeParse(JSON.parse((await readSmallFile(path)).toString('utf8'))).data;
  } catch {
    return undefined; // missing or damaged: the file is hashed again
  }
}
