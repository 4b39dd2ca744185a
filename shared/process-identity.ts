/**
 * Identifies a process: a pid is unique only together with its host, the boot of the host and the start of the process.
 *
 * Assumes that hosts have different names. Boot and start come from Linux's /proc. Elsewhere they are null and the pid alone identifies
 * the process: then `whyGone` cannot detect that a later process got the pid, and `isProvenAlive` is always false.
 */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { z } from 'zod';
import { systemCode } from './atomic-file.ts';

export const processIdentitySchema = z.strictObject({
  pid: z.int().positive(),
  host: z.string(),
  /** Identity of the machine's boot; null if unknown. */
  bootId: z.string().nullable(),
  /** Start of the process in clock ticks since boot, to detect a reused pid; null if unknown. */
  processStart: z.string().nullable(),
});

export type ProcessIdentity = z.output<typeof processIdentitySchema>;

export function ownIdentity(): ProcessIdentity {
  return identityOf(process.pid);
}

/** Of the process that has this pid on this host now; `processStart` is null if there is none. */
export function identityOf(pid: number): ProcessIdentity {
  return { pid, host: hostname(), bootId: readBootId(), processStart: readStat(pid)?.start ?? null };
}

/** Why the process cannot be alive; undefined if it is alive or may be. Processes of other hosts may be. */
export function whyGone({ pid, host, bootId, processStart }: ProcessIdentity): string | undefined {
  if (host !== hostname()) return undefined;
  const boot = readBootId();
  if (bootId !== null && boot !== null && bootId !== boot) return 'the machine was started anew since';
  if (!isAlive(pid)) return 'that process is gone';
  const start = readStat(pid)?.start;
  if (processStart !== null && start !== undefined && start !== processStart)
    return 'that process is gone and its number is used by another';
  return undefined;
}

/** Whether this very process runs on this host, so that it may be sent a signal. */
export function isProvenAlive(identity: ProcessIdentity): boolean {
  const { processStart, host } = identity;
  if (processStart === null || host !== hostname()) return false;
  return readStat(identity.pid)?.start === processStart && whyGone(identity) === undefined;
}

/** Whether a process of this host has this pid. A zombie (ended, not yet waited for by its parent) is not alive. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (systemCode(error) === 'ESRCH') return false; // any other error: a live process of another user
  }
  const state = readStat(pid)?.state;
  return state !== 'Z' && state !== 'X';
}

function readBootId(): string | null {
  return readSystemFile('/proc/sys/kernel/random/boot_id')?.trim() ?? null;
}

interface ProcessStat {
  /** One letter, proc(5). */
  readonly state: string;
  /** Clock ticks from the boot of the machine. */
  readonly start: string;
}

/** Undefined if unknown: no such process, no /proc, or no permission. */
function readStat(pid: number): ProcessStat | undefined {
  const text = readSystemFile(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // Fields 3 and 22 of proc(5) stat; field 2, the command, may hold spaces and ends with the last parenthesis.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, start] = [fields[0], fields[19]];
  return state === undefined || start === undefined ? undefined : { state, start };
}

function readSystemFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
