/**
 * The address of a worker's data port, as it announces it: `ws://host:port`, and behind a `#`, for workers that reach its local socket,
 * `LOCALITY/ws+local://NAME` (local-socket.ts). Nothing else is an address: other workers dial it, so a login, a path or a query in it
 * would be sent wherever it names. Pure.
 */
import { isIPv6 } from 'node:net';
import { TrainerError } from '../errors.ts';
import { formatLocalUrl, parseLocalUrl } from './local-socket.ts';

export interface DataAddress {
  readonly host: string;
  readonly port: number;
  /** `scheme://host:port`. */
  readonly url: string;
  readonly local: { readonly locality: string; readonly url: string } | null;
}

const HOST = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?$/;
const PORT = /^[1-9]\d{0,4}$/;
const LOCALITY = /^[A-Za-z0-9.-]{1,80}$/;
const SOCKET_NAME = /^exmix-[A-Za-z0-9]{1,64}$/;

/** @param scheme of the transport that dials it @throws MESSAGE_INVALID for any other text */
export function parseDataAddress(address: string, scheme: string): DataAddress {
  const invalid = (): TrainerError =>
    new TrainerError(
      'MESSAGE_INVALID',
      `address of a data port: expected ${scheme}://host:port without login, path or query, got ` +
        `${JSON.stringify(address.slice(0, 100))}; start that worker with --advertise HOST`,
    );
  const prefix = `${scheme}://`;
  const [url, hint, ...more] = address.split('#') as [string, string?, ...string[]];
  const at = url.lastIndexOf(':');
  const [host, port] = [url.slice(prefix.length, at), url.slice(at + 1)];
  const isPort = PORT.test(port) && Number(port) < 65_536;
  if (!url.startsWith(prefix) || at < prefix.length || more.length > 0 || !isPort) throw invalid();
  const isHost = host.startsWith('[') ? host.endsWith(']') && isIPv6(host.slice(1, -1)) : HOST.test(host);
  if (!isHost || !URL.canParse(url)) throw invalid();
  const local = hint === undefined ? null : parseHint(hint);
  if (local === undefined) throw invalid();
  return { host: host.replace(/^\[|\]$/g, ''), port: Number(port), url, local };
}

export function isDataAddress(address: string, scheme: string): boolean {
  try {
    parseDataAddress(address, scheme);
    return true;
  } catch {
    return false;
  }
}

/** @returns undefined where it is no hint */
function parseHint(hint: string): DataAddress['local'] | undefined {
  const at = hint.indexOf('/');
  const [locality, url] = [hint.slice(0, at), hint.slice(at + 1)];
  const name = parseLocalUrl(url);
  const isHint = at > 0 && LOCALITY.test(locality) && name !== null && SOCKET_NAME.test(name);
  return isHint ? { locality, url: formatLocalUrl(name) } : undefined;
}

/** @param url for workers of other hosts @param localUrl null without a local socket */
export function formatDataAddress(url: string, locality: string | null, localUrl: string | null): string {
  return locality === null || localUrl === null ? url : `${url}#${locality}/${localUrl}`;
}

/**
 * The URLs to dial, the best one first.
 * @param ownLocality of the dialling process; null: local sockets are not to be used
 * @throws MESSAGE_INVALID
 */
export function planRoutes(address: string, scheme: string, ownLocality: string | null): string[] {
  const { url, local } = parseDataAddress(address, scheme);
  return local !== null && local.locality === ownLocality ? [local.url, url] : [url];
}
