/**
 * One coordinator for a run folder: the file `lock` in it names the owner.
 *
 * The lock appears whole (written aside, then hard-linked). An owner is gone when its process is. Processes of another place (host, boot,
 * PID namespace) are invisible: such an owner is gone when it has not renewed the lock for `LEASE_MS`, and a coordinator that starts waits
 * for that. Times are those of the file system, so the clocks of hosts need not agree. Assumes hard links and one clock for the file times
 * (local disk, NFS, Lustre).
 * An owner that was frozen for longer than the lease learns it by `lost`. Until then the epoch fences its messages, and the files it has
 * open are no longer journal and ledger (open-run.ts).
 */
import { randomUUID } from 'node:crypto';
import { link, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import {
  statIfThere,
  systemCode,
  syncFolder,
  toStorageError,
  writeNewFile,
  withFile,
} from '../../shared/atomic-file.ts';
import type { Clock } from '../../shared/clock.ts';
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import { readIfThere } from '../../shared/small-file.ts';
import { ownIdentity, processIdentitySchema, whyGone } from '../../shared/process-identity.ts';
import { isHere } from '../../shared/process-place.ts';

/** A lock of another place is stale when it was not renewed for this long. */
export const LEASE_MS = 60_000;
/** The owner renews its lock this often. */
const RENEW_MS = 10_000;
/** A lock of another place that was renewed within this time has a live owner. */
const ALIVE_MS = 20_000;
/** Pause between two looks at a lock that is waited for. */
const POLL_MS = 1_000;

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

export interface LockInit {
  /** Its wall time is the owner's start time. */
  readonly clock: Clock;
  /** Ends the wait for a lease. */
  readonly signal: AbortSignal;
  /** Called once for each owner whose lease is waited for. */
  readonly onWaiting: (wait: LockWait) => void;
}

export interface LockWait {
  /** Names the owner, and why it is waited for. */
  readonly reason: string;
  /** Time at which the lease ends if it is not renewed, ISO 8601, UTC. */
  readonly until: string;
}

/**
 * Acquires the lock of a run folder. It waits at most two leases, and only for an owner of another place.
 * @throws RUN_LOCKED naming the owner; PATH_UNUSABLE, DISK_FULL, ABORTED
 */
export async function acquireRunLock(runFolder: string, init: LockInit): Promise<RunLock> {
  const path = join(runFolder, 'lock');
  const owner: LockOwner = {
    id: randomUUID(),
    ...ownIdentity(),
    startedAt: new Date(init.clock.wallMs()).toISOString(),
  };
  const own = `${path}.${owner.id}`;
  await writeNewFile(own, `${JSON.stringify(owner)}\n`);
  try {
    const takenOver = await takeLock(path, own, init);
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
 * @param own a file on the same file system: once it is touched, its time is the file system's time
 * @returns the sentence that names a dead owner; undefined where there was no lock, or none any more
 * @throws RUN_LOCKED where the owner is alive, ABORTED
 */
async function takeLock(
  path: string,
  own: string,
  { clock, signal, onWaiting }: LockInit,
): Promise<string | undefined> {
  const startedMs = clock.monotonicMs();
  let waitedFor: string | undefined;
  for (;;) {
    if (await tryLink(own, path)) return undefined;
    await touch(own);
    const owner = await readOwner(path);
    const renewedMs = (await statIfThere(path))?.mtimeMs;
    if (owner === undefined || renewedMs === undefined) {
      if (await tryLink(own, path)) return 'the lock vanished while it was read';
      throw fasterOther(path);
    }
    const ageMs = (await mtimeMs(own)) - renewedMs;
    const verdict = judgeOwner(owner, { ageMs, waitedMs: clock.monotonicMs() - startedMs });
    if (verdict.kind === 'alive') throw locked(path, `held by ${describeOwner(owner)}${verdict.reason}`);
    if (verdict.kind === 'dead') {
      await removeStaleLock(path, own, owner);
      if (!(await tryLink(own, path))) throw fasterOther(path);
      return `took over the lock of ${describeOwner(owner)}: ${verdict.reason}`;
    }
    if (waitedFor !== owner.id) {
      waitedFor = owner.id;
      const until = new Date(clock.wallMs() + LEASE_MS - ageMs).toISOString();
      onWaiting({ reason: `${path}: held by ${describeOwner(owner)}, ${verdict.reason}`, until });
    }
    await clock.sleep(POLL_MS, signal);
  }
}

/** @throws RUN_LOCKED where another coordinator takes it over too */
async function removeStaleLock(path: string, own: string, owner: LockOwner): Promise<void> {
  const aside = `${own}.stale`;
  try {
    await rename(path, aside);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw fasterOther(path);
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
}

export interface OwnerVerdict {
  readonly kind: 'alive' | 'dead' | 'unknown';
  /** Continues a sentence that names the owner. */
  readonly reason: string;
}

/**
 * Whether the owner of a lock lives. An owner of another place is given one lease to renew the lock.
 * @param ageMs since the last renewal @param waitedMs since the first look at the lock
 */
export function judgeOwner(
  owner: LockOwner,
  { ageMs, waitedMs }: { readonly ageMs: number; readonly waitedMs: number },
): OwnerVerdict {
  if (isHere(owner)) {
    const gone = whyGone(owner);
    if (gone !== undefined) return { kind: 'dead', reason: gone };
    return { kind: 'alive', reason: '; stop it first, or give this run another folder' };
  }
  const [ageS, leaseS] = [Math.max(0, Math.floor(ageMs / 1000)), LEASE_MS / 1000];
  if (ageMs > LEASE_MS)
    return { kind: 'dead', reason: `not renewed for ${ageS} s, more than the lease of ${leaseS} s` };
  if (waitedMs >= LEASE_MS && ageMs <= ALIVE_MS)
    return {
      kind: 'alive',
      reason: `, which still renews it (${ageS} s ago): stop it first, or give this run another folder`,
    };
  const reason = `renewed ${ageS} s ago; another host or container, so this coordinator waits for the end of its lease of ${leaseS} s`;
  return { kind: 'unknown', reason };
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
  const verdict = judgeOwner(owner, { ageMs, waitedMs: 0 });
  return { owner: describeOwner(owner), death: verdict.kind === 'dead' ? verdict.reason : undefined };
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

function fasterOther(path: string): TrainerError {
  return locked(path, 'another coordinator was faster in taking over a stale lock');
}

function locked(path: string, why: string): TrainerError {
  return new TrainerError('RUN_LOCKED', `${path}: ${why}`);
}
