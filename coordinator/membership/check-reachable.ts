/**
 * Decides at join whether the workers of a run can reach each other's data ports, as far as addresses tell. Pure.
 *
 * Definition: a worker is remote if it dials the coordinator from an address of another host. A data port on a loopback address is reached by
 * workers of its own host only. Workers without `--listen` announce the address from which they dial the coordinator.
 */
import { isIP } from 'node:net';
import { addressOfPeer, isLoopback } from '../../shared/addresses.ts';

export interface JoinedAddress {
  readonly workerId: string;
  /** The other end of its control connection. */
  readonly peer: string;
  /** Announced address of its data port. */
  readonly dataUrl: string;
}

/**
 * @param others workers that have joined @param own addresses of the coordinator's host
 * @returns why the newcomer is refused, and the cure, short enough for a close frame; undefined where no address speaks against it
 */
export function whyUnreachable(
  newcomer: JoinedAddress,
  others: readonly JoinedAddress[],
  own: readonly string[],
): string | undefined {
  const isRemote = ({ peer }: JoinedAddress): boolean => {
    const address = addressOfPeer(peer);
    return address !== undefined && !isLoopback(address) && !own.includes(address);
  };
  const announced = hostOf(newcomer.dataUrl);
  if (isLoopback(announced)) {
    if (isRemote(newcomer))
      return `other hosts cannot reach a data port at ${announced}: start this worker without --listen and --advertise`;
    const remote = others.find(isRemote);
    if (remote === undefined) return undefined;
    return `${remote.workerId} cannot reach a data port at ${announced}: give the name of the host in --url, or --listen`;
  }
  const local = isRemote(newcomer) ? others.find(({ dataUrl }) => isLoopback(hostOf(dataUrl))) : undefined;
  if (local === undefined) return undefined;
  return `out of reach: the data port of ${local.workerId} at ${hostOf(local.dataUrl)}; start that one with its host's name in --url`;
}

/** Of a data address; '' where it is no address. */
function hostOf(dataUrl: string): string {
  const { hostname } = URL.canParse(dataUrl) ? new URL(dataUrl) : { hostname: '' };
  const host = hostname.replace(/^\[(.*)\]$/u, '$1');
  return isIP(host) === 0 ? host.toLowerCase() : host;
}
