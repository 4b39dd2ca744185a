/**
 * The address of a data port as it is announced to the other members, and the ways to it.
 *
 * `ws://host:port`, and behind a `#`, for members that can reach its local socket, `LOCALITY/LOCAL-URL` (local-socket.ts). Pure.
 */

/** @param url for everybody @param localUrl null where there is no local socket */
export function formatDataAddress(url: string, locality: string | null, localUrl: string | null): string {
  return locality === null || localUrl === null ? url : `${url}#${locality}/${localUrl}`;
}

/**
 * The URLs to dial, the best one first.
 * @param ownLocality of the dialling process; null: local sockets are not to be used
 */
export function planRoutes(address: string, ownLocality: string | null): string[] {
  const [url, hint] = address.split('#', 2);
  const at = hint?.indexOf('/') ?? -1;
  const isLocal = hint !== undefined && ownLocality !== null && hint.slice(0, at) === ownLocality;
  return isLocal ? [hint.slice(at + 1), url!] : [url!];
}
