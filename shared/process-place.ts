/**
 * The place in which a pid means a process: a host, its boot and a PID namespace. Containers can have the same host name, and then also the
 * same pids. Boot and namespace come from Linux's /proc; elsewhere they are null, and hosts must have different names.
 */
import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

export interface ProcessPlace {
  readonly host: string;
  /** Identity of the machine's boot; null if unknown. */
  readonly bootId: string | null;
  /** Identity of the PID namespace, unique on one boot: `pid:[4026531836]`; null if unknown. */
  readonly pidNamespace: string | null;
}

/** Of this process. Only the host's name can change. */
export function ownPlace(): ProcessPlace {
  return { host: hostname(), ...OF_PROC };
}

const OF_PROC = {
  bootId: orNull(() => readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()),
  pidNamespace: orNull(() => readlinkSync('/proc/self/ns/pid')),
};

/** Whether the pids of that place are pids here. */
export function isHere({ host, bootId, pidNamespace }: ProcessPlace): boolean {
  const own = ownPlace();
  return host === own.host && bootId === own.bootId && pidNamespace === own.pidNamespace;
}

/** Names this process in the name of a file: no other process has the same name at the same time. */
export function ownFileTag(pid = process.pid): string {
  return `${placeTag()}-${pid}`;
}

/** Names this place in the name of a file. */
export function placeTag(): string {
  const { host, bootId, pidNamespace } = ownPlace();
  const hash = createHash('sha256')
    .update(`${bootId ?? ''} ${pidNamespace ?? ''}`)
    .digest('hex');
  return `${host}-${hash.slice(0, 12)}`;
}

function orNull(read: () => string): string | null {
  try {
    return read();
  } catch {
    return null;
  }
}
