/** Connects every rank of a generation with every other: one link per peer, both directions, before any frame is sent. */
import { abortable, abortedError } from '../../shared/abort.ts';
import { systemClock, type Clock } from '../../shared/clock.ts';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import { parseLocalUrl, readLocality } from '../../shared/transport/local-socket.ts';
import type { Transport } from '../../shared/transport/transport.ts';
import { planRoutes, formatDataPath, type DataPort, type ExpectedPeers, type MeshIdentity } from './data-port.ts';
import { dialDirect, dialMessages, type Inbound, type ChannelKind } from './inbound.ts';
import type { PeerChannel } from './peer-channel.ts';
import { Outbox, OUTBOX_FOLDER, outboxPath, OutboxReader, sweepOutboxes } from './outbox.ts';
import { DuplexChannel } from './duplex-channel.ts';

const FIRST_RETRY_MS = 10;
const LONGEST_RETRY_MS = 250;

export type SocketKind = 'auto' | 'tcp';

export interface ConnectMeshInit {
  readonly rank: number;
  /** All ranks but the own one, with the announced addresses of their data ports. */
  readonly peers: readonly { readonly rank: number; readonly url: string }[];
  readonly port: DataPort;
  readonly transport: Transport;
  readonly token: string;
  readonly epoch: number;
  readonly generation: number;
  readonly channelKind: ChannelKind;
  /** `auto`: a peer of the same host is dialled through its local socket, by TCP where nobody answers there. */
  readonly socket: SocketKind;
  /** As in CollectiveOptions. */
  readonly frameBytes: number;
  /** As in CollectiveOptions. */
  readonly window: number;
  /** Of the own rank. */
  readonly numCoverNodes: number;
  /** For outboxes (outbox.ts). */
  readonly outboxFolder?: string;
  /** Without an outbox payloads go through the sockets. */
  readonly onNoOutbox?: (error: TrainerError) => void;
  /** For the whole mesh; peers that are not yet there are dialled again until then. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
}

/**
 * @returns links in the order of `peers`, not yet started
 * @throws CONNECT_FAILED after the deadline, naming the ranks; AUTH_FAILED; ABORTED. Nothing stays open then.
 */
export function connectMesh(init: ConnectMeshInit): Promise<PeerChannel[]> {
  const clock = init.clock ?? systemClock;
  return connectUntil(clock.monotonicMs() + init.timeoutMs, clock, init);
}

async function connectUntil(deadlineMs: number, clock: Clock, init: ConnectMeshInit): Promise<PeerChannel[]> {
  const { rank, peers, port, epoch, generation, signal } = init;
  const identity: MeshIdentity = { epoch, generation, rank, worldSize: peers.length + 1 };
  const locality = init.socket === 'auto' ? readLocality() : null;
  const routesTo = new Map(peers.map((peer) => [peer.rank, planRoutes(peer.url, locality)]));
  const outbox = createOutbox(init, routesTo);
  const expected = port.expect(identity);
  const inbounds = new Map<number, Inbound>();
  const failures = new Map<number, TrainerError>();
  const over = new AbortController();
  const giveUp = signal === undefined ? over.signal : AbortSignal.any([over.signal, signal]);
  /** Ends the dialling when there is nothing more to do. */
  const check = (): void => {
    if (inbounds.size === peers.length && expected.missing.length === 0) over.abort();
  };
  expected.onChange = check;
  clock.sleep(Math.max(0, deadlineMs - clock.monotonicMs()), giveUp).then(
    () => over.abort(),
    () => undefined,
  );

  /** Keeps one connection to the peer until the mesh is over: a peer may give up and begin again meanwhile. */
  const keepDialled = async (peer: { rank: number; url: string }): Promise<void> => {
    const routes = routesTo.get(peer.rank)!;
    let waitMs = FIRST_RETRY_MS;
    while (!giveUp.aborted) {
      try {
        const inbound = await dialInbound(init, peer.rank, routes[0]!, giveUp);
        inbounds.set(peer.rank, inbound);
        check();
        await abortable(inbound.connection.closed, giveUp, 'watching a connection').catch(() => undefined);
        if (!inbound.connection.isOpen) inbounds.delete(peer.rank);
      } catch (error) {
        const failure = toTrainerError(error);
        if (failure.code === 'ABORTED') return;
        failures.set(peer.rank, failure);
        if (!failure.retryable) over.abort();
        // A cause: nobody answered. Without one the peer did, and is not ready yet.
        if (failure.cause !== undefined && routes.length > 1) routes.shift();
      }
      await clock.sleep(waitMs, giveUp).catch(() => undefined);
      waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS);
    }
  };
  check();
  await Promise.all(peers.map(keepDialled));
  port.stopExpecting(expected);
  const channels = peers.flatMap((peer) => {
    const inbound = inbounds.get(peer.rank);
    const outbound = expected.connections.get(peer.rank);
    return inbound === undefined || outbound === undefined
      ? []
      : [new DuplexChannel(peer.rank, outbound, inbound, outbox)];
  });
  if (channels.length === peers.length && signal?.aborted !== true) return channels;
  const error = describeFailure(init, expected, inbounds, failures);
  const opened = [...expected.connections.values(), ...[...inbounds.values()].map(({ connection }) => connection)];
  for (const connection of opened) connection.close(error.code, error.message);
  outbox?.close();
  // The mesh was whole and a peer that began again left it at that moment: there is time for it to come back.
  if (error.retryable && clock.monotonicMs() < deadlineMs) return connectUntil(deadlineMs, clock, init);
  throw error;
}

function dialInbound(init: ConnectMeshInit, peer: number, route: string, signal: AbortSignal): Promise<Inbound> {
  const {
    channelKind,
    transport,
    token,
    epoch,
    generation,
    timeoutMs,
    frameBytes,
    outboxFolder = OUTBOX_FOLDER,
  } = init;
  const worldSize = init.peers.length + 1;
  const url = route + formatDataPath({ epoch, generation, rank: init.rank, worldSize }, peer, init.rank);
  const dial = { token, timeoutMs, signal };
  if (channelKind === 'message') return dialMessages(transport, url, dial, frameBytes);
  const socketName = parseLocalUrl(route);
  return dialDirect(url, dial, () =>
    socketName === null
      ? null
      : OutboxReader.open(outboxPath(outboxFolder, socketName, epoch, generation), `rank ${peer}`),
  );
}

/** The own outbox for the peers of this host, or null: without it payloads go through the sockets. */
function createOutbox(init: ConnectMeshInit, routesTo: ReadonlyMap<number, readonly string[]>): Outbox | null {
  const { port, epoch, generation, frameBytes, window, numCoverNodes, outboxFolder = OUTBOX_FOLDER } = init;
  const socketName = port.localUrl === null ? null : parseLocalUrl(port.localUrl);
  const readers = [...routesTo].filter(([, routes]) => parseLocalUrl(routes[0]!) !== null).map(([peer]) => peer);
  if (init.channelKind === 'message' || socketName === null || readers.length === 0) return null;
  const path = outboxPath(outboxFolder, socketName, epoch, generation);
  try {
    sweepOutboxes(outboxFolder);
    return Outbox.create({ path, readers, frameBytes, window, numCoverNodes });
  } catch (error) {
    init.onNoOutbox?.(toStorageError(error, 'make', path));
    return null;
  }
}

function describeFailure(
  { rank, peers, generation, timeoutMs, signal }: ConnectMeshInit,
  expected: ExpectedPeers,
  inbounds: ReadonlyMap<number, Inbound>,
  failures: ReadonlyMap<number, TrainerError>,
): TrainerError {
  const where = `data mesh of generation ${generation}, rank ${rank}`;
  if (signal?.aborted === true) return abortedError(`${where}: connecting`, signal);
  for (const [peer, final] of failures)
    if (!final.retryable)
      return new TrainerError(final.code, `${where}: ${final.message}`, { cause: final, peers: [peer] });
  const notReached = peers.filter((peer) => !inbounds.has(peer.rank));
  const unreached = notReached.map(
    (peer) => `rank ${peer.rank} at ${peer.url} (${failures.get(peer.rank)?.message ?? 'no answer'})`,
  );
  const silent = expected.missing.map((peer) => `rank ${peer}`);
  const parts = [
    ...(unreached.length > 0 ? [`could not reach ${unreached.join(', ')}`] : []),
    ...(silent.length > 0 ? [`no connection came from ${silent.join(', ')}`] : []),
  ];
  return new TrainerError('CONNECT_FAILED', `${where}: within ${timeoutMs} ms ${parts.join('; ')}`, {
    retryable: true,
    peers: [...new Set([...notReached.map((peer) => peer.rank), ...expected.missing])],
  });
}
