/**
 * Local sockets: Unix domain sockets in Linux's abstract name space, for two processes of one host. Faster than TCP over loopback.
 *
 * They are not files, so a killed process leaves none behind. Only processes of one network name space can reach them. Their address is
 * `ws+local://NAME/path`. As with a TCP port, any local process can connect: the token authenticates it.
 */
import { readFileSync, readlinkSync } from 'node:fs';

export const LOCAL_PROTOCOL = 'ws+local:';

/** The path of the socket with this name, for `net.connect` and `listen`. */
export function toSocketPath(name: string): string {
  return `\0${name}`;
}

export function formatLocalUrl(name: string): string {
  return `${LOCAL_PROTOCOL}//${name}`;
}

/** The name in a local address, or null for another address. */
export function parseLocalUrl(url: string): string | null {
  const prefix = formatLocalUrl('');
  return url.startsWith(prefix) ? url.slice(prefix.length) : null;
}

/** Equal for exactly the processes that can reach each other's local sockets; null if there are none. */
export function readLocality(): string | null {
  try {
    const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    const networkNamespace = readlinkSync('/proc/self/ns/net').replace(/\D/g, '');
    return `${bootId}.${networkNamespace}`;
  } catch {
    return null; // not Linux, or a sandbox without /proc
  }
}

/** Names of the local sockets with a listener in this network name space. */
export function listLocalSockets(): Set<string> {
  const paths = readFileSync('/proc/net/unix', 'latin1').matchAll(/ @([^@\s]+)@*$/gm); // some versions of node pad the name with zeros, shown as @
  return new Set(Array.from(paths, ([, name]) => name!));
}
