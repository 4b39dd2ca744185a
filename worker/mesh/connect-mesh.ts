/** Connects every rank of a generation with every other: one channel per peer, both directions, before any frame is sent. */
import { nameLocation } from '../../shared/storage/location.ts';
import { abortable, abortedError } from '../../shared/abort.ts';
import { systemClock, type Clock } from '../../shared/clock.ts';
import { toStorageError } from '../../shared/atomic-file.ts';
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import { planRoutes } from '../../shared/transport/data-address.ts';
import { parseLocalUrl, readLocality } from '../../shared/transport/local-socket.ts';
import type { Transport } from '../../shared/transport/transport.ts';
import { formatDataPath, type DataPort, type ExpectedPeers, type MeshIdentity } from './data-port.ts';
import { dialDirect, dialMessages, type Inbound, type ChannelKind } from './inbound.ts';
import type { PeerChannel } from './peer-channel.ts';
import { Outbox, OUTBOX_FOLDER, OutboxReader, sweepOutboxes } from './outbox.ts';
import { DuplexChannel } from './duplex-channel.ts';

const FIRST_RETRY_MS = 10;
const LONGEST_RETRY_MS = 250;

export type SocketKind = 'auto' | 'tcp';

/** How this rank sends and receives frames. */
export interface ChannelSettings {
  readonly kind: ChannelKind;
  /** `auto`: a peer of the same host is dialled through its local socket, by TCP where nobody answers there. */
  readonly socket: SocketKind;
  /** Most bytes of one payload. */
  readonly frameBytes: number;
  /** Pieces under way to each peer that the outbox has slots for. */
  readonly window: number;
  /** Of the own rank. */
  readonly numCoverNodes: number;
  /** Folder of outboxes (outbox.ts). */
  readonly outboxFolder?: string;
}

export interface ConnectMeshInit {
  readonly identity: Pick<MeshIdentity, 'epoch' | 'generation' | 'rank' | 'secret'>;
  /** All ranks but the own one, with the announced addresses of their data ports. */
  readonly peers: readonly { readonly rank: number; readonly url: string }[];
  readonly port: DataPort;
  readonly transport: Transport;
  readonly channel: ChannelSettings;
  /** An outbox could not be created, or not opened: payloads go through the sockets. */
  readonly onNoOutbox?: (error: TrainerError) => void;
  /** For the whole mesh; until then, peers that do not answer are dialled again. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
  readonly clock?: Clock;
}

/**
 * @returns channels in the order of `peers`, not yet started
 * @throws CONNECT_FAILED after the deadline, naming the ranks; AUTH_FAILED; MESSAGE_INVALID for an address that is none; ABORTED.
 *   Nothing stays open then.
 */
export async function connectMesh(init: ConnectMeshInit): Promise<PeerChannel[]> {
  const clock = init.clock ?? systemClock;
  return connectUntil(clock.monotonicMs() + init.timeoutMs, clock, init);
}

async function connectUntil(deadlineMs: number, clock: Clock, init: ConnectMeshInit): Promise<PeerChannel[]> {
  const { peers, port, signal } = init;
  const identity: MeshIdentity = { ...init.identity, worldSize: peers.length + 1 };
  const locality = init.channel.socket === 'auto' ? readLocality() : null;
  const routesTo = new Map(peers.map((peer) => [peer.rank, routesOf(peer, init.transport.scheme, locality)]));
  const outbox = createOutbox(init, routesTo);
  const expected = port.expect(identity, (receiver) => outbox?.greetingFor(receiver) ?? '');
  const inbounds = new Map<number, Inbound>();
  const failures = new Map<number, TrainerError>();
  const over = new AbortController();
  const stopDialling = signal === undefined ? over.signal : AbortSignal.any([over.signal, signal]);
  /** Ends the dialling when every connection is there. */
  const check = (): void => {
    if (inbounds.size === peers.length && expected.missing.length === 0) over.abort();
  };
  expected.onChange = check;
  clock.sleep(Math.max(0, deadlineMs - clock.monotonicMs()), stopDialling).then(
    () => over.abort(),
    () => undefined,
  );

  /** Keeps one connection to the peer until the mesh is complete: a peer may fail and dial anew meanwhile. */
  const keepDialled = async (peer: { rank: number; url: string }): Promise<void> => {
    const routes = routesTo.get(peer.rank)!;
    let waitMs = FIRST_RETRY_MS;
    while (!stopDialling.aborted) {
      try {
        const inbound = await dialInbound(init, peer.rank, routes[0]!, stopDialling);
        inbounds.set(peer.rank, inbound);
        check();
        await abortable(inbound.connection.closed, stopDialling, 'watching a connection').catch(() => undefined);
        if (!inbound.connection.isOpen) inbounds.delete(peer.rank);
      } catch (error) {
        const failure = toTrainerError(error);
        if (failure.code === 'ABORTED') return;
        failures.set(peer.rank, failure);
        // A local socket where another process answers says nothing about the peer.
        const hasOtherRoute = routes.length > 1;
        if (!failure.retryable && !hasOtherRoute) over.abort();
        // With a cause nobody answered; without one the peer answered and is not ready yet.
        if ((failure.cause !== undefined || !failure.retryable) && hasOtherRoute) routes.shift();
      }
      await clock.sleep(waitMs, stopDialling).catch(() => undefined);
      waitMs = Math.min(2 * waitMs, LONGEST_RETRY_MS);
    }
  };
  check();
  await Promise.all(peers.map(keepDialled));
  port.stopAdmitting(expected);
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
  // A peer left the complete mesh at the last moment and has time to come back.
  if (error.retryable && clock.monotonicMs() < deadlineMs) return connectUntil(deadlineMs, clock, init);
  throw error;
}

/** @throws MESSAGE_INVALID with the rank */
function routesOf({ rank, url }: ConnectMeshInit['peers'][number], scheme: string, locality: string | null): string[] {
  try {
    return planRoutes(url, scheme, locality);
  } catch (error) {
    const { code, message } = toTrainerError(error);
    throw new TrainerError(code, `rank ${rank}: ${message}`, { cause: error, peers: [rank] });
  }
}

function dialInbound(init: ConnectMeshInit, peer: number, route: string, signal: AbortSignal): Promise<Inbound> {
  const { identity, transport, timeoutMs, channel, onNoOutbox } = init;
  const { rank, secret } = identity;
  const { kind, frameBytes, outboxFolder = OUTBOX_FOLDER } = channel;
  const url = route + formatDataPath(identity, peer, rank);
  const dial = { secret, timeoutMs, signal };
  if (kind === 'message') return dialMessages(transport, url, dial, frameBytes);
  return dialDirect(url, dial, (greeting) => {
    if (parseLocalUrl(route) === null) return null;
    try {
      return OutboxReader.open(outboxFolder, greeting, `rank ${peer}`);
    } catch (error) {
      onNoOutbox?.(toTrainerError(error));
      return null;
    }
  });
}

/** The own outbox for the peers of this host, or null: without it payloads go through the sockets. */
function createOutbox(init: ConnectMeshInit, routesTo: ReadonlyMap<number, readonly string[]>): Outbox | null {
  const { port, channel } = init;
  const { kind, frameBytes, window, numCoverNodes, outboxFolder: folder = OUTBOX_FOLDER } = channel;
  const socketName = port.localUrl === null ? null : parseLocalUrl(port.localUrl);
  const readers = [...routesTo].filter(([, routes]) => parseLocalUrl(routes[0]!) !== null).map(([peer]) => peer);
  if (kind === 'message' || socketName === null || readers.length === 0) return null;
  try {
    sweepOutboxes(folder);
    return Outbox.create({ folder, socketName, readers, frameBytes, window, numCoverNodes });
  } catch (error) {
    init.onNoOutbox?.(toStorageError(error, 'create an outbox in', folder));
    return null;
  }
}

function describeFailure(
  { identity: { rank, generation }, peers, timeoutMs, signal }: ConnectMeshInit,
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
    (peer) => `rank ${peer.rank} at ${nameLocation(peer.url)} (${failures.get(peer.rank)?.message ?? 'no answer'})`,
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
