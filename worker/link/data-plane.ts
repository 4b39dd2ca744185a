/**
 * The data side of a worker: its one listening port, and for each generation the mesh of links, the arena, the collective on them, and the
 * state that members copy from each other. One generation at a time; the memory of gradients is used again by the next one.
 */
import { isIPv6 } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import type { Refusal, Transport } from '../../shared/transport/transport.ts';
import { Collective } from '../collective/all-reduce.ts';
import { Arena, planArena, type ArenaLayout } from '../collective/arena.ts';
import { connectMesh } from '../collective/connect-mesh.ts';
import { DataPort } from '../collective/data-port.ts';
import { planGradient } from '../compute/plan-gradient.ts';
import { copyState } from '../state/copy-state.ts';
import type { StateTensors } from '../state/state-pieces.ts';
import { StateServer } from '../state/state-server.ts';
import type { FormMessage } from './generation-link.ts';
import type { FaultInjector } from './injected-fault.ts';
import type { LinkData } from './link-messages.ts';

export interface FormInit {
  readonly form: FormMessage;
  readonly config: RunConfig;
  readonly signal: AbortSignal;
}

export interface CopyInit extends FormInit {
  readonly step: number;
  readonly tensors: StateTensors;
}

export interface Formed {
  readonly arena: Arena;
  readonly collective: Collective;
}

export interface DataPlaneInit {
  readonly data: Pick<LinkData, 'token' | 'listenHost' | 'listenPort' | 'advertiseHost'>;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly onRefused: (refusal: Refusal) => void;
  readonly onNoOutbox: (error: TrainerError) => void;
  /** Left out where there is nothing to inject faults into. */
  readonly faults?: FaultInjector;
}

export class DataPlane {
  readonly #init: DataPlaneInit;
  /** While members may copy from here. */
  #stateServer: StateServer | undefined;
  #port: DataPort | undefined;
  /** Gradient memory of a generation whose links are gone. */
  #freeMemory: WebAssembly.Memory | undefined;

  constructor(init: DataPlaneInit) {
    this.#init = init;
  }

  /** @returns the address to announce to the other workers @throws PORT_IN_USE, CONFIG_INVALID for an address nobody can dial */
  async listen(): Promise<string> {
    const { data, transport, onRefused } = this.#init;
    const { listenHost: host, listenPort: port, advertiseHost, token } = data;
    checkAdvertised(advertiseHost);
    this.#port = await DataPort.open({ transport, host, port, token, onRefused });
    const { protocol } = new URL(this.#port.url);
    const reached = isIPv6(advertiseHost) ? `[${advertiseHost}]` : advertiseHost;
    return this.#port.announce(`${protocol}//${reached}:${this.#port.port}`);
  }

  /**
   * Connects to every other member and starts the collective on the links.
   * @throws CONNECT_FAILED, AUTH_FAILED, CONFIG_INVALID (an arena that does not fit, frames of a wrong size), ABORTED
   */
  async form({ form, config, signal }: FormInit): Promise<Formed> {
    const { rank, members, epoch, generation, firstStep, receivers } = form;
    const { frameBytes, windowFrames: window, link: linkKind, socket } = config.collective;
    const { connectTimeoutMs, stepTimeoutMs } = config.cluster;
    const { transport, clock, onNoOutbox } = this.#init;
    const port = this.#port!;
    if (receivers.length > 0) {
      this.#stateServer = new StateServer({ signal });
      port.serveState({ epoch, generation, rank, worldSize: members.length }, this.#stateServer.serve);
    }
    const plan = planGradient(config);
    const laneTree = planLaneTree(
      config.training.numLanes,
      members.map(({ lanes }) => lanes),
    );
    const arena = this.#makeArena(planArena({ plan, laneTree, rank, frameBytes, window }));
    const peers = members
      .filter((member) => member.rank !== rank)
      .map((member) => ({ rank: member.rank, url: member.dataUrl }));
    const mesh = await connectMesh({
      rank,
      peers,
      port,
      transport,
      token: this.#init.data.token,
      epoch,
      generation,
      linkKind,
      socket,
      frameBytes,
      window,
      numCoverNodes: laneTree.folds[rank]!.cover.length,
      onNoOutbox,
      timeoutMs: connectTimeoutMs,
      signal,
      clock,
    });
    const links = this.#init.faults?.guard(mesh) ?? mesh;
    const options = { frameBytes, window, timeoutMs: stepTimeoutMs + config.feed.sourceTimeoutMs };
    const ids = { rank, epoch, generation, firstStep };
    try {
      const collective = new Collective({ arena, plan, laneTree, ...ids, links, options, clock });
      void collective.closed.then(() => (this.#freeMemory = arena.memory));
      return { arena, collective };
    } catch (error) {
      for (const link of links) link.close('INTERNAL', 'the collective could not be made');
      throw error;
    }
  }

  /** Lets the receivers of this generation copy it; they may have asked already. */
  offerState(step: number, tensors: StateTensors): void {
    this.#stateServer?.offer({ step, tensors });
  }

  /** Fills the tensors from the peers that hold the state. @throws what copyState throws */
  async copyState({ form, config, step, tensors, signal }: CopyInit): Promise<void> {
    const { state, members, epoch, generation, rank } = form;
    if (state.kind !== 'peers') throw new TrainerError('INTERNAL', `rank ${rank} was told to copy nothing`);
    const { transport, clock, data } = this.#init;
    await copyState({
      holders: state.ranks.map((holder) => ({ rank: holder, url: members[holder]!.dataUrl })),
      epoch,
      generation,
      rank,
      step,
      into: tensors,
      transport,
      token: data.token,
      socket: config.collective.socket,
      timeoutMs: config.cluster.connectTimeoutMs,
      clock,
      signal,
    });
  }

  /** Nobody copies from here any more. */
  withdrawState(): void {
    void this.#stateServer?.withdraw();
    this.#stateServer = undefined;
  }

  /** Resolves when nobody is listened to any more and the connections that came here are gone. */
  async close(): Promise<void> {
    await this.#port?.close();
  }

  /** In memory that an earlier generation has left, where it is large enough; one whose links still close may still be written to. */
  #makeArena(layout: ArenaLayout): Arena {
    const free = this.#freeMemory;
    this.#freeMemory = undefined;
    if (free === undefined || free.buffer.byteLength < layout.totalBytes) return new Arena(layout);
    new Uint8Array(free.buffer).fill(0); // padding must be zero
    return new Arena(layout, free);
  }
}

function checkAdvertised(host: string): void {
  const isWildcard = host === '0.0.0.0' || host === '::';
  if (!isWildcard && (isIPv6(host) || URL.canParse(`ws://${host}:1`))) return;
  throw new TrainerError(
    'CONFIG_INVALID',
    `address of the data port for other workers: expected a host name or address they can dial, got ${JSON.stringify(host)}` +
      (isWildcard ? '; give --advertise with --listen on all addresses' : ''),
  );
}
