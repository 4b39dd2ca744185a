/**
 * Files of a hub on this machine's disk, by their content: `<cacheFolder>/hub/<version>`. Another data set, revision or mirror with
 * the same file finds it there. Nothing is ever removed: delete the folder to clear it, also while nothing reads from it.
 *
 * A download goes to `<version>.partial-<host>-<pid>`, is resumed by a process of that host that finds it after its owner is gone,
 * and gets its name when its hash is that of the hub: SHA-256 of LFS files, git's SHA-1 of others. So a file that is there is whole.
 * Who finds another at it waits as long as that one writes; two that begin at the same moment both download, with the same result.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { syncFolder, systemCode, toStorageError } from '../../../shared/atomic-file.ts';
import { systemClock } from '../../../shared/clock.ts';
import { TrainerError } from '../../../shared/errors.ts';
import { isAlive } from '../../../shared/process-identity.ts';
import type { ResolvedFile } from '../resolved-source.ts';
import type { SourceAccess } from '../source-access.ts';
import { openHubFile } from './hub-files.ts';

/** A download that was not written to for this long is not waited for, ms. */
const SILENT_MS = 120_000;
/** How often one that waits looks, ms. */
const LOOK_MS = 200;

/** Downloads of this process, by path. */
const underWay = new Map<string, Promise<void>>();

/** Where a file lies, or will lie. */
export function cachedPath({ version }: ResolvedFile, { cacheFolder }: SourceAccess): string {
  return join(cacheFolder, 'hub', version.replace(':', '-'));
}

/** Whether the whole file is on this machine. */
export async function isCached(file: ResolvedFile, access: SourceAccess): Promise<boolean> {
  return (await sizeOf(cachedPath(file, access))) === file.bytes;
}

/**
 * Downloads the file unless it is there.
 * @param onAlive called as its bytes arrive, and while another process that writes them is waited for
 * @returns its path
 * @throws STORAGE_NOT_FOUND, STORAGE_DENIED, STORAGE_UNAVAILABLE, SOURCE_UNREADABLE (another hash), DISK_FULL, PATH_UNUSABLE, ABORTED
 */
export async function ensureCached(
  file: ResolvedFile,
  access: SourceAccess,
  signal?: AbortSignal,
  onAlive: () => void = () => undefined,
): Promise<string> {
  const path = cachedPath(file, access);
  while (!(await isCached(file, access))) {
    const other = underWay.get(path);
    if (other !== undefined) {
      await other.catch(() => undefined); // its failure is told to who started it; this one tries itself
      continue;
    }
    const download = downloadOrWait(file, path, access, signal, onAlive);
    underWay.set(path, download);
    try {
      await download;
    } finally {
      underWay.delete(path);
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
  const own = `${path}.partial-${hostname()}-${process.pid}`;
  for (;;) {
    const others = (await partialsOf(path)).filter((partial) => partial !== own);
    const written = await Promise.all(others.map((partial) => wasWritten(partial, clock.wallMs() - SILENT_MS)));
    if (!others.some((partial, i) => written[i] === true && !isAbandoned(partial))) {
      // Renaming succeeds for one process only.
      for (const partial of others.filter(isAbandoned)) await rename(partial, own).catch(() => undefined);
      break;
    }
    onAlive();
    await clock.sleep(LOOK_MS, signal);
    if ((await sizeOf(path)) === file.bytes) return;
  }
  await download(file, own, access, signal, onAlive);
  await rename(own, path).catch((error: unknown) => {
    throw toStorageError(error, 'rename', own);
  });
  await syncFolder(dirname(path));
}

/** Fills `partial` from where it ends, and checks it. */
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

/** Git's hash of a file covers its size too. */
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

/** Whether its owner was a process of this host that is gone. */
function isAbandoned(partial: string): boolean {
  const [, host, pid] = /\.partial-(.*)-(\d+)$/u.exec(partial) ?? [];
  return host === hostname() && !isAlive(Number(pid));
}

async function wasWritten(path: string, sinceMs: number): Promise<boolean> {
  return stat(path).then(
    ({ mtimeMs }) => mtimeMs > sinceMs,
    () => false,
  );
}
