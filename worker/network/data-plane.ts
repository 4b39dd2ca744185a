/**
 * The data side of a worker: its listening port, and for each generation the mesh, the arena, the collective, and the copy of the state between
 * members. One generation at a time; the next generation uses the gradient memory again.
 */
import { isDataAddress } from '../../shared/transport/data-address.ts';
import { lookup } from 'node:dns/promises';
import { throwIfAborted } from '../../shared/abort.ts';
import { isWildcard, ownAddresses, plainAddress, urlHost } from '../../shared/addresses.ts';
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import type { Refusal, Transport } from '../../shared/transport/transport.ts';
import { Collective, type CollectiveInit } from '../collective/all-reduce.ts';
import { MAX_ARENA_BYTES, planArena, type Arena, type ArenaLayout, type ArenaPool } from '../arena/arena.ts';
import { connectMesh } from '../mesh/connect-mesh.ts';
import { planWindows } from '../mesh/frame-windows.ts';
import { DataPort, type ExpectedPeers } from '../mesh/data-port.ts';
import { probeLinks } from '../mesh/probe-links.ts';
import { planGradient } from '../collective/plan-gradient.ts';
import { copyState } from '../state/copy-state.ts';
import type { StateTensors } from '../state/state-pieces.ts';
import { StateServer } from '../state/state-server.ts';
import type { PeerChannel } from '../mesh/peer-channel.ts';
import type { FormMessage, NetworkData, ProbeMessage } from './network-messages.ts';

export interface FormInit {
  readonly form: FormMessage;
  readonly config: RunConfig;
  readonly signal: AbortSignal;
}

export interface CopyInit extends FormInit {
  readonly step: number;
  readonly tensors: StateTensors;
}

export interface ProbeInit {
  readonly message: ProbeMessage;
  readonly config: RunConfig;
  readonly signal: AbortSignal;
}

export interface Formed {
  readonly arena: Arena;
  readonly collective: Collective;
}

export interface DataPlaneInit {
  readonly data: Pick<NetworkData, 'listenHost' | 'listenPort' | 'advertiseHost'>;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly arenas: ArenaPool;
  readonly onRefused: (refusal: Refusal) => void;
  readonly onNoOutbox: (error: TrainerError) => void;
}

export class DataPlane {
  readonly #init: DataPlaneInit;
  /** Set while members may copy the state from here. */
  #state: { readonly server: StateServer; readonly served: ExpectedPeers } | undefined;
  #port: DataPort | undefined;
  /** Resolves when the last generation's channels are closed, within CLOSE_TIMEOUT_MS: then nobody writes to its memory. */
  #vacated: Promise<void> = Promise.resolve();

  constructor(init: DataPlaneInit) {
    this.#init = init;
  }

  /**
   * @param socketAddress own address of the socket to the coordinator
   * @returns the address to announce to the other workers @throws PORT_IN_USE; CONFIG_INVALID for an address nobody can dial
   */
  async listen(socketAddress: string | undefined): Promise<string> {
    const { data, transport, onRefused } = this.#init;
    const { listenPort: port, advertiseHost: advertise, listenHost: listen } = data;
    const own = advertise === undefined || listen !== undefined ? [] : await ownAddressesOf(advertise);
    const hosts = planDataHosts({ listen, advertise, socketAddress, ownOfAdvertised: own });
    checkAdvertised(hosts.advertise, transport.scheme);
    this.#port = await DataPort.open({ transport, host: hosts.listen, port, onRefused });
    const { protocol } = new URL(this.#port.url);
    return this.#port.announce(`${protocol}//${urlHost(hosts.advertise)}:${this.#port.port}`);
  }

  /**
   * Connects to every other member and starts the collective, once the channels of the generation before are closed.
   * @throws CONNECT_FAILED, AUTH_FAILED, CONFIG_INVALID (an arena that does not fit, frames of a wrong size), ABORTED
   */
  form(init: FormInit): Promise<Formed> {
    if (init.form.receivers.length > 0) this.#serveState(init);
    const forming = this.#vacated.then(() => this.#connect(init));
    this.#vacated = forming.then(
      ({ collective }) => collective.closed,
      () => undefined,
    );
    return forming;
  }

  /** Admits receivers from now on; their requests wait for `offerState`. */
  #serveState({ form: { rank, members, epoch, generation, secret }, signal }: FormInit): void {
    const server = new StateServer({ signal });
    const served = this.#port!.serve(
      'state',
      { epoch, generation, rank, worldSize: members.length, secret },
      server.serve,
    );
    this.#state = { server, served };
  }

  async #connect(init: FormInit): Promise<Formed> {
    const { form, config, signal } = init;
    const { rank, members, generation } = form;
    throwIfAborted(signal, `forming generation ${generation}`);
    const { frameBytes, windowFrames: window } = config.collective;
    const plan = planGradient(config);
    const laneTree = planLaneTree(
      config.training.numLanes,
      members.map(({ lanes }) => lanes),
    );
    const least = planArena({ plan, laneTree, rank, frameBytes, window });
    const channels = await this.#connectMesh(init, laneTree.folds[rank]!.cover.length);
    const layout = planArena({ plan, laneTree, rank, frameBytes, window: chooseWindows(config, least, channels) });
    return this.#startCollective(init, { layout, plan, laneTree, channels });
  }

  #connectMesh({ form, config, signal }: FormInit, numCoverNodes: number): Promise<PeerChannel[]> {
    const { rank, members, epoch, generation, secret } = form;
    const { frameBytes, windowFrames: window, link: kind, socket } = config.collective;
    const { transport, clock, onNoOutbox } = this.#init;
    const others = members.filter((member) => member.rank !== rank);
    return connectMesh({
      identity: { epoch, generation, rank, secret },
      peers: others.map((member) => ({ rank: member.rank, url: member.dataUrl })),
      port: this.#port!,
      transport,
      channel: { kind, socket, frameBytes, window, numCoverNodes },
      onNoOutbox,
      timeoutMs: config.cluster.connectTimeoutMs,
      signal,
      clock,
    });
  }

  #startCollective(
    { form, config }: FormInit,
    { layout, ...parts }: Pick<CollectiveInit, 'plan' | 'laneTree' | 'channels'> & { readonly layout: ArenaLayout },
  ): Formed {
    const { rank, epoch, generation, firstStep } = form;
    const { frameBytes } = config.collective;
    const { arenas, clock } = this.#init;
    const timeoutMs = config.cluster.stepTimeoutMs + config.feed.sourceTimeoutMs;
    const options = { frameBytes, timeoutMs };
    let arena: Arena | undefined;
    try {
      const acquired = (arena = arenas.acquire(layout));
      const collective = new Collective({ ...parts, arena, rank, epoch, generation, firstStep, options, clock });
      void collective.closed.then(() => arenas.release(acquired));
      return { arena, collective };
    } catch (error) {
      for (const channel of parts.channels) channel.close('INTERNAL', 'the collective could not be started');
      if (arena !== undefined) arenas.release(arena); // no frame was received into it
      throw error;
    }
  }

  /** Lets the receivers of this generation copy the state. Requests may have come already. */
  offerState(step: number, tensors: StateTensors): void {
    this.#state?.server.offer({ step, tensors });
  }

  /** Fills the tensors from the peers that hold the state. @throws as copyState does */
  async copyState({ form, config, step, tensors, signal }: CopyInit): Promise<void> {
    const { state, members, epoch, generation, rank, secret } = form;
    if (state.kind !== 'peers') throw new TrainerError('INTERNAL', `rank ${rank} has no holder to copy the state from`);
    const { transport, clock } = this.#init;
    await copyState({
      holders: state.ranks.map((holder) => ({ rank: holder, url: members[holder]!.dataUrl })),
      epoch,
      generation,
      rank,
      step,
      into: tensors,
      transport,
      secret,
      socket: config.collective.socket,
      timeoutMs: config.cluster.connectTimeoutMs,
      clock,
      signal,
    });
  }

  /** Tries links beside the generation. @returns which do not work; undefined where all work @throws ABORTED */
  probeLinks({ message, config, signal }: ProbeInit): Promise<TrainerError | undefined> {
    const { epoch, trial, rank, secret, peers } = message;
    const { transport, clock } = this.#init;
    const { socket } = config.collective;
    return probeLinks({
      ...{ epoch, trial, rank, secret, transport, clock, socket, signal },
      peers: peers.map(({ dataUrl, ...peer }) => ({ ...peer, url: dataUrl })),
      port: this.#port!,
      timeoutMs: config.cluster.connectTimeoutMs,
    });
  }

  /** Ends serving the state. */
  withdrawState(): void {
    if (this.#state === undefined) return;
    this.#port?.stopAdmitting(this.#state.served);
    void this.#state.server.withdraw();
    this.#state = undefined;
  }

  /** Resolves when the port is closed and the connections it accepted are gone. */
  async close(): Promise<void> {
    await this.#port?.close();
  }
}

/** @param least the layout with the smallest windows: the rest of the largest arena bounds the windows */
function chooseWindows({ collective }: RunConfig, least: ArenaLayout, channels: readonly PeerChannel[]): number[] {
  const { windowFrames, maxWindowBytes } = collective;
  const { numCoverNodes, receiveStride, sumStride, totalBytes } = least;
  const slotBytes = receiveStride + sumStride;
  const roundTripsMs = numCoverNodes.map(() => 0);
  for (const { peerRank, roundTripMs } of channels) roundTripsMs[peerRank] = roundTripMs;
  const bound = Math.min(maxWindowBytes, MAX_ARENA_BYTES - totalBytes);
  return planWindows({ roundTripsMs, numCoverNodes, slotBytes, windowFrames, maxWindowBytes: bound });
}

export interface DataHostsInit {
  /** --listen and --advertise, where they are given. */
  readonly listen: string | undefined;
  readonly advertise: string | undefined;
  /** Own address of the socket to the coordinator; undefined where it has none. */
  readonly socketAddress: string | undefined;
  /** Addresses of `advertise` that are this host's own. */
  readonly ownOfAdvertised: readonly string[];
}

/**
 * Decides which address the data port binds, and by which the other workers dial it. Pure.
 *
 * Rule: the address from which this worker reaches the coordinator is one by which other workers reach it. It is the default of both, also
 * of the announced one where the port binds all addresses. An announced address that is this host's own is also the one to bind.
 */
export function planDataHosts(init: DataHostsInit): { readonly listen: string; readonly advertise: string } {
  const { listen, advertise, socketAddress = '127.0.0.1', ownOfAdvertised } = init;
  if (listen === undefined)
    return { listen: ownOfAdvertised[0] ?? socketAddress, advertise: advertise ?? socketAddress };
  return { listen, advertise: advertise ?? (isWildcard(listen) ? socketAddress : listen) };
}

/** The own addresses of this host behind a name or address. None where it is not known, or is that of a gateway. */
async function ownAddressesOf(host: string): Promise<string[]> {
  const own = ownAddresses();
  const found = await lookup(host, { all: true }).catch(() => []);
  return found.map(({ address }) => plainAddress(address)).filter((address) => own.includes(address));
}

/** @throws CONFIG_INVALID */
export function checkAdvertised(host: string, scheme: string): void {
  const isAll = isWildcard(host);
  if (!isAll && isDataAddress(`${scheme}://${urlHost(host)}:1`, scheme)) return;
  throw new TrainerError(
    'CONFIG_INVALID',
    `address of the data port for other workers: expected a host name or address they can dial, got ${JSON.stringify(host)}; ` +
      `give --advertise${isAll ? ' one address of this host' : ''}`,
  );
}
