/**
 * One coordinator for a run folder: the file `lock` in it names the owner.
 *
 * The lock appears whole (written aside, then hard-linked). An owner is gone when its process is, or its machine was started
 * anew, or, on another host where processes cannot be seen, when it has not renewed the lock for `LEASE_MS`. Times are those of
 * the file system, so hosts' clocks need not agree. Assumes hard links and one clock for the file times (local disk, NFS, Lustre).
 * An owner that was only frozen for longer than the lease finds out by `lost`; until then the epoch fences its messages, and journal and
 * ledger are no longer the files that it has open (open-run.ts).
 */
import { randomUUID } from 'node:crypto';
import { link, open, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { readIfThere, systemCode, syncFolder, toStorageError, writeNewFile } from '../../shared/atomic-file.ts';
import { TrainerError } from '../../shared/errors.ts';
import { ownIdentity, processIdentitySchema, whyGone } from '../../shared/process-identity.ts';

/** A lock from another host that was not renewed for this long is stale. */
export const LEASE_MS = 60_000;
/** The owner renews this often. */
const RENEW_MS = 10_000;

const ownerSchema = processIdentitySchema.extend({
  id: z.string(),
  /** ISO 8601, UTC. */
  startedAt: z.string(),
});

export type LockOwner = z.output<typeof ownerSchema>;

export interface RunLock {
  readonly owner: LockOwner;
  /** The sentence to log where the lock of a dead owner was taken over. */
  readonly takenOver?: string;
  /** Fires when the lock turns out to be somebody else's: stop at once and write nothing more. */
  readonly lost: AbortSignal;
  /** Removes the lock if it still is ours. */
  release(): Promise<void>;
}

/**
 * Takes the lock of a run folder, or fails at once.
 * @param wallMs now, ms since 1970; for the owner's start time
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
    return holdLock(path, owner, takenOver);
  } finally {
    await rm(own, { force: true });
  }
}

function holdLock(path: string, owner: LockOwner, takenOver: string | undefined): RunLock {
  const lost = new AbortController();
  const isOurs = async () => (await readOwner(path))?.id === owner.id;
  const renew = async () => {
    if (await isOurs()) await touch(path);
    else lost.abort(new TrainerError('RUN_LOCKED', `${path} was taken over by another coordinator`));
  };
  // A renewal that fails (a file server away for a moment) is made good by the next one; the lease is six of them.
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
 * Moves a dead owner's lock out of the way.
 * @param own a file just written on the same file system: its time is the file system's now
 * @returns the sentence that says whose lock it was @throws RUN_LOCKED where the owner is alive
 */
async function removeStaleLock(path: string, own: string): Promise<string> {
  const owner = await readOwner(path);
  if (owner === undefined) return 'the lock vanished while it was looked at';
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
    // Another coordinator took over between the look and the move, and this is its lock: give it back.
    await tryLink(aside, path);
    await rm(aside, { force: true });
    throw locked(path, `held by ${describeOwner(moved)}`);
  }
  await rm(aside, { force: true });
  return `took over the lock of ${describeOwner(owner)}: ${death}`;
}

/** Why the owner cannot be alive; undefined where it is, or may be. */
function whyDead(owner: LockOwner, ageMs: number): string | undefined {
  if (owner.host !== hostname())
    return ageMs > LEASE_MS
      ? `not renewed for ${Math.floor(ageMs / 1000)} s, more than the lease of ${LEASE_MS / 1000} s`
      : undefined;
  return whyGone(owner);
}

/** undefined where there is no lock. @throws PATH_UNUSABLE for a lock that cannot be read or is none of ours */
async function readOwner(path: string): Promise<LockOwner | undefined> {
  const text = await readIfThere(path);
  if (text === undefined) return undefined;
  try {
    return ownerSchema.parse(JSON.parse(text));
  } catch (error) {
    const message = `${path} is not a lock of exmix; look what it is, and remove it if no coordinator uses ${dirname(path)}`;
    throw new TrainerError('PATH_UNUSABLE', message, { cause: error });
  }
}

/** Sets the modification time to the file system's own now, which `utimes` cannot: writes the first byte as it is. */
async function touch(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write('{', 0);
  } finally {
    await file.close();
  }
}

async function mtimeMs(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    throw toStorageError(error, 'look at', path);
  }
}

function describeOwner(owner: LockOwner): string {
  return `process ${owner.pid} on ${owner.host}, started ${owner.startedAt}`;
}

function locked(path: string, why: string): TrainerError {
  return new TrainerError('RUN_LOCKED', `${path}: ${why}`);
}
