/**
 * One coordinator for a run folder: the file `lock` in it names the owner.
 *
 * The lock appears whole (written aside, then hard-linked). An owner is gone when its process is, or when its host was rebooted. On another
 * host, whose processes are invisible, it is gone when it has not renewed the lock for `LEASE_MS`. Times are those of the file system, so
 * the clocks of hosts need not agree. Assumes hard links and one clock for the file times (local disk, NFS, Lustre).
 * An owner that was frozen for longer than the lease learns it by `lost`. Until then the epoch fences its messages, and the files it has
 * open are no longer journal and ledger (open-run.ts).
 */
import { randomUUID } from 'node:crypto';
import { link, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import {
  readIfThere,
  systemCode,
  syncFolder,
  toStorageError,
  writeNewFile,
  withFile,
} from '../../shared/atomic-file.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import { ownIdentity, processIdentitySchema, whyGone } from '../../shared/process-identity.ts';

/** A lock of another host is stale when it was not renewed for this long. */
export const LEASE_MS = 60_000;
/** The owner renews its lock this often. */
const RENEW_MS = 10_000;

const ownerSchema = processIdentitySchema.extend({
  id: z.string(),
  /** ISO 8601, UTC. */
  startedAt: z.string(),
});

export type LockOwner = z.output<typeof ownerSchema>;

export interface RunLock {
  readonly owner: LockOwner;
  /** The sentence to log where the lock of a dead owner was taken over; absent where there was no lock. */
  readonly takenOver?: string;
  /** Fires when another coordinator has taken the lock over: stop at once and write nothing more. */
  readonly lost: AbortSignal;
  /** Removes the lock if it is still ours. */
  release(): Promise<void>;
}

/**
 * Acquires the lock of a run folder, or fails at once.
 * @param wallMs now, ms since 1970: the owner's start time
 * @throws RUN_LOCKED naming the owner; PATH_UNUSABLE, DISK_FULL
 */
export async function acquireRunLock(runFolder: string, wallMs: number): Promise<RunLock> {
  const path = join(runFolder, 'lock');
  const owner: LockOwner = {
    id: randomUUID(),
    ...ownIdentity(),
    startedAt: new Date(wallMs).toISOString(),
  };
  const own = `${path}.${owner.id}`;
  await writeNewFile(own, `${JSON.stringify(owner)}\n`);
  try {
    let takenOver: string | undefined;
    if (!(await tryLink(own, path))) {
      takenOver = await removeStaleLock(path, own);
      if (!(await tryLink(own, path))) throw locked(path, 'another coordinator was faster in taking over a stale lock');
    }
    await syncFolder(runFolder);
    return keepLock(path, owner, takenOver);
  } finally {
    await rm(own, { force: true });
  }
}

function keepLock(path: string, owner: LockOwner, takenOver: string | undefined): RunLock {
  const lost = new AbortController();
  const isOurs = async () => (await readOwner(path))?.id === owner.id;
  const renew = async () => {
    if (await isOurs()) await touch(path);
    else lost.abort(new TrainerError('RUN_LOCKED', `${path} was taken over by another coordinator`));
  };
  // One failed renewal (a file server that is away for a moment) does no harm: the lease is six of them.
  const timer = setInterval(() => void renew().catch(() => undefined), RENEW_MS);
  timer.unref();
  return {
    owner,
    ...(takenOver === undefined ? {} : { takenOver }),
    lost: lost.signal,
    async release() {
      clearInterval(timer);
      if (await isOurs()) await rm(path, { force: true });
    },
  };
}

/** @returns false where the lock exists @throws PATH_UNUSABLE, DISK_FULL */
async function tryLink(own: string, path: string): Promise<boolean> {
  try {
    await link(own, path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw toStorageError(error, 'lock', path);
  }
}

/**
 * Removes a dead owner's lock.
 * @param own a file just written on the same file system: its time is the file system's time now
 * @returns the sentence that names its owner @throws RUN_LOCKED where the owner is alive
 */
async function removeStaleLock(path: string, own: string): Promise<string> {
  const owner = await readOwner(path);
  if (owner === undefined) return 'the lock vanished while it was read';
  const ageMs = (await mtimeMs(own)) - (await mtimeMs(path));
  const death = whyDead(owner, ageMs);
  if (death === undefined)
    throw locked(path, `held by ${describeOwner(owner)}; stop it first, or give this run another folder`);

  const aside = `${own}.stale`;
  try {
    await rename(path, aside);
  } catch (error) {
    if (systemCode(error) === 'ENOENT')
      throw locked(path, 'another coordinator was faster in taking over a stale lock');
    throw toStorageError(error, 'take over', path);
  }
  const moved = await readOwner(aside);
  if (moved !== undefined && moved.id !== owner.id) {
    // Another coordinator took over between the read and the rename, and this is its lock: restore it.
    await tryLink(aside, path);
    await rm(aside, { force: true });
    throw locked(path, `held by ${describeOwner(moved)}`);
  }
  await rm(aside, { force: true });
  return `took over the lock of ${describeOwner(owner)}: ${death}`;
}

/** Why the owner cannot be alive; undefined where it may be. */
function whyDead(owner: LockOwner, ageMs: number): string | undefined {
  if (owner.host !== hostname())
    return ageMs > LEASE_MS
      ? `not renewed for ${Math.floor(ageMs / 1000)} s, more than the lease of ${LEASE_MS / 1000} s`
      : undefined;
  return whyGone(owner);
}

/** undefined where there is no lock. @throws PATH_UNUSABLE for a lock that cannot be read or that exmix did not write */
async function readOwner(path: string): Promise<LockOwner | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    return ownerSchema.parse(JSON.parse(text));
  } catch (error) {
    const message = `${path} is not a lock of exmix; check what it is, and remove it if no coordinator uses ${dirname(path)}`;
    throw new TrainerError('PATH_UNUSABLE', message, { cause: error });
  }
}

export interface LockView {
  /** A sentence part that names the owner. */
  readonly owner: string;
  /** Why the owner cannot be alive; undefined where it may be. */
  readonly death: string | undefined;
}

/** The lock of a run folder as others see it; undefined where there is none. @throws PATH_UNUSABLE */
export async function inspectRunLock(runFolder: string): Promise<LockView | undefined> {
  const path = join(runFolder, 'lock');
  const owner = await readOwner(path);
  if (owner === undefined) return undefined;
  const probe = `${path}.${randomUUID()}`;
  let ageMs = 0; // whoever may not write here cannot tell the file system's time, and proves no lease to be over
  try {
    await writeNewFile(probe, '');
    ageMs = (await mtimeMs(probe)) - (await mtimeMs(path));
  } catch (error) {
    if (toTrainerError(error).code !== 'PATH_UNUSABLE') throw error;
  } finally {
    await rm(probe, { force: true });
  }
  return { owner: describeOwner(owner), death: whyDead(owner, ageMs) };
}

/** Sets the modification time to the file system's time, which `utimes` cannot do: writes the first byte unchanged. */
async function touch(path: string): Promise<void> {
  await withFile(path, 'r+', (file) => file.write('{', 0));
}

async function mtimeMs(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    throw toStorageError(error, 'read', path);
  }
}

function describeOwner(owner: LockOwner): string {
  return `process ${owner.pid} on ${owner.host}, started ${owner.startedAt}`;
}

function locked(path: string, why: string): TrainerError {
  return new TrainerError('RUN_LOCKED', `${path}: ${why}`);
}
