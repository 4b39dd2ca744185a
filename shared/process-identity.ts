/**
 * Identifies a process: a pid is unique only together with its place (process-place.ts) and the start of the process. A process of another
 * place may be alive: its pid says nothing here.
 *
 * The start comes from Linux's /proc. Elsewhere it is null: then `whyGone` cannot detect that a later process got the pid, and
 * `isProvenAlive` is always false.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { z } from 'zod';
import { systemCode } from './atomic-file.ts';
import { isHere, ownPlace } from './process-place.ts';

export const processIdentitySchema = z.strictObject({
  pid: z.int().positive(),
  host: z.string(),
  /** Identity of the machine's boot; null if unknown. */
  bootId: z.string().nullable(),
  /** Identity of the PID namespace; null if unknown, as in files of earlier versions. */
  pidNamespace: z.string().nullable().default(null),
  /** Start of the process in clock ticks since boot, to detect a reused pid; null if unknown. */
  processStart: z.string().nullable(),
});

export type ProcessIdentity = z.output<typeof processIdentitySchema>;

export function ownIdentity(): ProcessIdentity {
  return identityOf(process.pid);
}

/** Of the process that has this pid on this host now; `processStart` is null if there is none. */
export function identityOf(pid: number): ProcessIdentity {
  return { pid, ...ownPlace(), processStart: readStat(pid)?.start ?? null };
}

/** Why the process cannot be alive; undefined if it is alive or may be. Processes of other places may be. */
export function whyGone(identity: ProcessIdentity): string | undefined {
  const { pid, processStart } = identity;
  if (!isHere(identity)) return undefined;
  if (!isAlive(pid)) return 'that process is gone';
  const start = readStat(pid)?.start;
  if (processStart !== null && start !== undefined && start !== processStart)
    return 'that process is gone and its number is used by another';
  return undefined;
}

/** Whether this very process runs here, so that it may be sent a signal. */
export function isProvenAlive(identity: ProcessIdentity): boolean {
  const { processStart } = identity;
  if (processStart === null || !isHere(identity)) return false;
  return readStat(identity.pid)?.start === processStart && whyGone(identity) === undefined;
}

/** Whether a process has this pid here. A zombie (ended, not yet waited for by its parent) is not alive. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (systemCode(error) === 'ESRCH') return false; // any other error: a live process of another user
  }
  const state = readStat(pid)?.state;
  return state !== 'Z' && state !== 'X';
}

interface ProcessStat {
  /** One letter, proc(5). */
  readonly state: string;
  /** Clock ticks from the boot of the machine. */
  readonly start: string;
}

/** Undefined if unknown: no such process, no /proc or that of another PID namespace, or no permission. */
function readStat(pid: number): ProcessStat | undefined {
  let text: string;
  try {
    if (readlinkSync('/proc/self') !== String(process.pid)) return undefined;
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // Fields 3 and 22 of proc(5) stat; field 2, the command, may hold spaces and ends with the last parenthesis.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, start] = [fields[0], fields[19]];
  return state === undefined || start === undefined ? undefined : { state, start };
}
