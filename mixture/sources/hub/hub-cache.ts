/**
 * Files of a hub: downloaded to a cache on this machine, or read directly.
 *
 * The cache is keyed by content: `<cacheFolder>/hub/<version>`. A file that another data set, revision or mirror shares
 * is downloaded once. Nothing is removed: delete the folder to clear it, when no process reads from it.
 *
 * A download is written to `<version>.partial-<place>-<pid>`. If its process dies, another process of that place (host
 * or container) continues it. It gets its final name when its hash equals the hub's: SHA-256 for LFS files, git's SHA-1 for others.
 * So a file with a final name is whole. A process that finds another download of the same file waits while that one is
 * still written. If two start at the same moment, both download, with the same result.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { syncFolder, systemCode, toStorageError } from '../../../shared/atomic-file.ts';
import { systemClock } from '../../../shared/clock.ts';
import { TrainerError } from '../../../shared/errors.ts';
import { isAlive } from '../../../shared/process-identity.ts';
import { ownFileTag, placeTag } from '../../../shared/process-place.ts';
import { HttpStorage } from '../../../shared/storage/http-storage.ts';
import type { Storage } from '../../../shared/storage/storage.ts';
import type { ResolvedFile } from '../resolved-source.ts';
import type { SourceAccess } from '../source-access.ts';
import { hubRefusal } from './hub-client.ts';

/** Do not wait for a download that was not written to for this long, ms. */
const SILENT_MS = 120_000;
/** Interval between two looks at a download of another process, ms. */
const POLL_MS = 200;

/** Downloads of this process, by path. */
const downloads = new Map<string, Promise<void>>();

/**
 * Opens a file at a commit directly. Its key is the empty one. A redirect to another server does not carry the token.
 * Its bytes are fixed by the commit, so a download may resume at another server of the hub's delivery network, whatever
 * ETag that one sends. The hash at the end decides.
 */
export function openHubFile(url: string, access: SourceAccess): Storage {
  const { hubToken, storage } = access;
  const headers = hubToken === undefined ? {} : { headers: { authorization: `Bearer ${hubToken}` } };
  const dataset = /\/datasets\/(.+?)\/resolve\//u.exec(url)?.[1] ?? '';
  return new HttpStorage(url, {
    ...storage,
    ...headers,
    isImmutable: true,
    // The API of a gated set answers everyone; only its files are refused. Without a code it may be any server.
    refusalOf: (response, attempt) =>
      response.headers.has('x-error-code') ? hubRefusal(dataset, access, response, attempt) : undefined,
  });
}

/** Where a file is, or will be. */
export function cachedPath({ version }: ResolvedFile, { cacheFolder }: SourceAccess): string {
  return join(cacheFolder, 'hub', version.replace(':', '-'));
}

/** Whether the whole file is on this machine. */
export async function isCached(file: ResolvedFile, access: SourceAccess): Promise<boolean> {
  return (await sizeOf(cachedPath(file, access))) === file.bytes;
}

/**
 * Downloads the file unless the cache has it.
 * @param onAlive called as bytes arrive, and while waiting for another process that downloads it
 * @returns its path
 * @throws STORAGE_NOT_FOUND, STORAGE_DENIED, STORAGE_UNAVAILABLE, SOURCE_UNREADABLE (another hash), DISK_FULL,
 * PATH_UNUSABLE, ABORTED
 */
export async function ensureCached(
  file: ResolvedFile,
  access: SourceAccess,
  signal?: AbortSignal,
  onAlive: () => void = () => undefined,
): Promise<string> {
  const path = cachedPath(file, access);
  while (!(await isCached(file, access))) {
    const other = downloads.get(path);
    if (other !== undefined) {
      await other.catch(() => undefined); // the caller that started it gets its error; this one tries itself
      continue;
    }
    const download = downloadOrWait(file, path, access, signal, onAlive);
    downloads.set(path, download);
    try {
      await download;
    } finally {
      downloads.delete(path);
    }
  }
  return path;
}

async function downloadOrWait(
  file: ResolvedFile,
  path: string,
  access: SourceAccess,
  signal: AbortSignal | undefined,
  onAlive: () => void,
): Promise<void> {
  const clock = access.storage?.clock ?? systemClock;
  await mkdir(dirname(path), { recursive: true }).catch((error: unknown) => {
    throw toStorageError(error, 'create', dirname(path));
  });
  const own = `${path}.partial-${ownFileTag()}`;
  for (;;) {
    const others = (await partialsOf(path)).filter((partial) => partial !== own);
    const written = await Promise.all(others.map((partial) => wasWritten(partial, clock.wallMs() - SILENT_MS)));
    if (!others.some((partial, i) => written[i] === true && !isAbandoned(partial))) {
      // Only one process succeeds in renaming.
      for (const partial of others.filter(isAbandoned)) await rename(partial, own).catch(() => undefined);
      break;
    }
    onAlive();
    await clock.sleep(POLL_MS, signal);
    if ((await sizeOf(path)) === file.bytes) return;
  }
  await download(file, own, access, signal, onAlive);
  await rename(own, path).catch((error: unknown) => {
    throw toStorageError(error, 'rename', own);
  });
  await syncFolder(dirname(path));
}

/** Continues `partial` from its end, and checks the hash. */
async function download(
  file: ResolvedFile,
  partial: string,
  access: SourceAccess,
  signal: AbortSignal | undefined,
  onAlive: () => void,
): Promise<void> {
  const hash = hashOf(file);
  let at = 0;
  if (((await sizeOf(partial)) ?? 0) <= file.bytes) {
    for await (const chunk of readFrom(partial)) {
      hash.update(chunk);
      at += chunk.length;
      onAlive();
    }
  } else await rm(partial, { force: true });
  try {
    const out = await open(partial, 'a');
    try {
      const options = { from: at, to: file.bytes, signal };
      for await (const chunk of openHubFile(file.location, access).stream('', options)) {
        hash.update(chunk);
        await out.writeFile(chunk);
        onAlive();
      }
      await out.sync();
    } finally {
      await out.close();
    }
  } catch (error) {
    throw toStorageError(error, 'write', partial);
  }
  const found = hash.digest('hex');
  const expected = file.version.slice(file.version.indexOf(':') + 1);
  if (found === expected) return;
  await rm(partial, { force: true });
  throw new TrainerError(
    'SOURCE_UNREADABLE',
    `source file ${file.name}: downloaded bytes have the hash ${found}, the hub says ${expected}; start again, or use another mirror`,
  );
}

/** Git's hash of a file includes its size. */
function hashOf({ version, bytes }: ResolvedFile): Hash {
  return version.startsWith('sha256:') ? createHash('sha256') : createHash('sha1').update(`blob ${bytes}\0`);
}

async function* readFrom(path: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(path) as AsyncIterable<Uint8Array>) yield chunk;
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw toStorageError(error, 'read', path);
  }
}

async function sizeOf(path: string): Promise<number | undefined> {
  return stat(path).then(
    ({ size }) => size,
    () => undefined,
  );
}

async function partialsOf(path: string): Promise<string[]> {
  const prefix = `${basename(path)}.partial-`;
  const names = await readdir(dirname(path)).catch((error: unknown) => {
    throw toStorageError(error, 'list', dirname(path));
  });
  return names.filter((name) => name.startsWith(prefix)).map((name) => join(dirname(path), name));
}

/** Whether its process was here and is gone. */
function isAbandoned(partial: string): boolean {
  const [, place, pid] = /\.partial-(.*)-(\d+)$/u.exec(partial) ?? [];
  return place === placeTag() && !isAlive(Number(pid));
}

async function wasWritten(path: string, sinceMs: number): Promise<boolean> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs > sinceMs,
    () => false,
  );
}
