/**
 * One worker's part of a link trial (docs/protocol.md, Link trial): the links between a worker that was left out and the members are tried
 * beside the run. Nothing of a generation is touched.
 *
 * Each side dials the other, as in a mesh, because frames of each direction have a connection of their own. The listener sends one message of
 * PROBE_BYTES over it: a network that drops only full packets fails too.
 */
import { abortable } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import { listNames } from '../../shared/list-names.ts';
import { nameLocation } from '../../shared/storage/location.ts';
import type { Connection, Transport } from '../../shared/transport/transport.ts';
import type { SocketKind } from './connect-mesh.ts';
import { formatProbePath, type DataPort, type TrialNumber } from './data-port.ts';
import { dialPort } from './dial-port.ts';

/** Length of the message over a link on trial, B: many packets. */
export const PROBE_BYTES = 65_536;

export interface ProbePeer {
  readonly workerId: string;
  /** Its number in the trial. */
  readonly rank: number;
  /** As it announced its data port. */
  readonly url: string;
}

export interface ProbeLinksInit extends TrialNumber {
  /** The own number in the trial. */
  readonly rank: number;
  readonly secret: Uint8Array;
  readonly peers: readonly ProbePeer[];
  readonly port: DataPort;
  readonly transport: Transport;
  readonly socket: SocketKind;
  /** For all links. Peers are admitted for as long, also after the own links are known: they may have begun later. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  /** Ends the trial, and with it all its connections. */
  readonly signal: AbortSignal;
}

/** @returns CONNECT_FAILED with the links that do not work; undefined where all work @throws ABORTED */
export async function probeLinks(init: ProbeLinksInit): Promise<TrainerError | undefined> {
  const { peers, timeoutMs, clock, signal } = init;
  const over = new AbortController();
  const probes = AbortSignal.any([over.signal, signal]);
  const endServing = servePeers(init);
  void clock
    .sleep(timeoutMs, signal)
    .catch(() => undefined)
    .then(() => {
      over.abort();
      endServing();
    });
  const faults = await Promise.all(peers.map((peer) => probe(init, peer, probes)));
  if (signal.aborted) throw new TrainerError('ABORTED', 'the link trial was aborted', { cause: signal.reason });
  const found = faults.filter((fault) => fault !== undefined);
  if (found.length === 0) return undefined;
  return new TrainerError('CONNECT_FAILED', `no link to ${listNames(found, { separator: '; ' })}`);
}

/** Admits the peers and sends each its message. @returns ends it */
function servePeers({ epoch, trial, rank, secret, peers, port }: ProbeLinksInit): () => void {
  const worldSize = 1 + Math.max(rank, ...peers.map((peer) => peer.rank));
  const served = port.serve('probe', { epoch, generation: trial, rank, worldSize, secret }, (connection) => {
    connection.send([new Uint8Array(PROBE_BYTES)]).catch((error: unknown) => {
      const { code, message } = toTrainerError(error);
      connection.close(code, message);
    });
  });
  return () => {
    port.stopAdmitting(served);
    for (const connection of served.connections.values()) connection.close('NORMAL', 'the link trial is over');
  };
}

/** @returns the peer and why the link from it does not work; undefined where it works */
async function probe(init: ProbeLinksInit, peer: ProbePeer, signal: AbortSignal): Promise<string | undefined> {
  const { rank, transport, secret, socket, timeoutMs, clock } = init;
  let lastFailure: TrainerError | undefined;
  try {
    const connection = await dialPort({
      url: peer.url,
      path: formatProbePath(init, peer.rank, rank),
      ...{ transport, secret, socket, timeoutMs, clock, signal },
      maxMessageBytes: PROBE_BYTES,
      onRetry: (failure) => (lastFailure = failure),
    });
    try {
      lastFailure = undefined;
      await abortable(receiveProbe(connection), signal, 'receiving over a link on trial');
      return undefined;
    } finally {
      connection.close('NORMAL', 'the link was tried');
    }
  } catch (error) {
    const failure = toTrainerError(error);
    const reason = failure.code === 'ABORTED' ? lastFailure : failure;
    return `${peer.workerId} at ${nameLocation(peer.url)} (${reason?.message ?? `no answer within ${timeoutMs} ms`})`;
  }
}

/** @throws CONNECTION_LOST, FRAME_INVALID */
function receiveProbe(connection: Connection): Promise<void> {
  return new Promise((resolve, reject) => {
    connection.onMessage((message) => {
      if (message.byteLength === PROBE_BYTES) resolve();
      else reject(new TrainerError('FRAME_INVALID', `expected ${PROBE_BYTES} B, got ${message.byteLength} B`));
    });
    void connection.closed.then(({ code, reason }) =>
      reject(new TrainerError('CONNECTION_LOST', `closed with ${code} ${reason} before its message came`)),
    );
  });
}
