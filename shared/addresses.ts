/** Addresses of hosts: which are loopback, which stand for all, which are this host's own. */
import { isIP, isIPv4, isIPv6 } from 'node:net';
import { networkInterfaces } from 'node:os';

/** An IPv4 address that a socket for both families shows as `::ffff:10.0.0.1`, in its own form; others as they are. */
export function plainAddress(address: string): string {
  const mapped = /^::ffff:(.+)$/iu.exec(address)?.[1];
  return mapped !== undefined && isIPv4(mapped) ? mapped : address;
}

/** Whether only processes of its own host reach a host name or address. */
export function isLoopback(host: string): boolean {
  const plain = plainAddress(host);
  return (isIPv4(plain) && plain.startsWith('127.')) || plain === '::1' || /^localhost\.?$/iu.test(plain);
}

/** Whether it stands for all addresses of a host: for listening, not for dialling. */
export function isWildcard(host: string): boolean {
  return plainAddress(host) === '0.0.0.0' || (isIPv6(host) && /^[0:]+$/u.test(host));
}

/** A host as it stands in a URL. */
export function urlHost(host: string): string {
  return isIPv6(host) ? `[${host}]` : host;
}

/** The address in `address:port`; undefined where there is none. */
export function addressOfPeer(peer: string): string | undefined {
  const address = plainAddress(peer.slice(0, Math.max(0, peer.lastIndexOf(':'))));
  return isIP(address) === 0 ? undefined : address;
}

/** Addresses of this host that others may reach, IPv4 first. Without loopback and link-local ones. */
export function ownAddresses(): string[] {
  const outer = Object.values(networkInterfaces()).flatMap((each) => each ?? []);
  const found = outer
    .filter(({ internal, address }) => !internal && !isLoopback(address) && !/^(?:fe80:|169\.254\.)/iu.test(address))
    .map(({ address }) => address);
  return [...found.filter((address) => isIPv4(address)), ...found.filter((address) => isIPv6(address))];
}
