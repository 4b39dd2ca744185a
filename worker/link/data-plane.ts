/** The data side of a worker: its one listening port, and for each generation the mesh of links, the arena and the collective on them. */
import { isIPv6 } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { TrainerError } from '../../shared/errors.ts';
import type { Member } from '../../shared/protocol/messages.ts';
import type { Refusal, Transport } from '../../shared/transport/transport.ts';
import { Collective } from '../collective/all-reduce.ts';
import { Arena, planArena } from '../collective/arena.ts';
import { connectMesh } from '../collective/connect-mesh.ts';
import { DataPort } from '../collective/data-port.ts';
import { assignLanes } from '../../shared/assign-lanes.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import { planGradient } from '../compute/plan-gradient.ts';
import type { LinkData } from './link-messages.ts';

export interface FormInit {
  readonly config: RunConfig;
  readonly rank: number;
  readonly members: readonly Member[];
  readonly epoch: number;
  readonly generation: number;
  readonly firstStep: number;
  readonly signal: AbortSignal;
}

export interface Formed {
  readonly arena: Arena;
  readonly collective: Collective;
}

export interface DataPlaneInit {
  readonly data: LinkData;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly onRefused: (refusal: Refusal) => void;
  readonly onNoOutbox: (error: TrainerError) => void;
}

export class DataPlane {
  readonly #data: LinkData;
  readonly #transport: Transport;
  readonly #clock: Clock;
  readonly #onRefused: (refusal: Refusal) => void;
  readonly #onNoOutbox: (error: TrainerError) => void;
  #port: DataPort | undefined;

  constructor(init: DataPlaneInit) {
    this.#data = init.data;
    this.#transport = init.transport;
    this.#clock = init.clock;
    this.#onRefused = init.onRefused;
    this.#onNoOutbox = init.onNoOutbox;
  }

  /** @returns the address to announce to the other workers @throws PORT_IN_USE, CONFIG_INVALID for an address nobody can dial */
  async listen(): Promise<string> {
    const { listenHost: host, listenPort: port, advertiseHost, token } = this.#data;
    checkAdvertised(advertiseHost);
    this.#port = await DataPort.open({ transport: this.#transport, host, port, token, onRefused: this.#onRefused });
    const { protocol } = new URL(this.#port.url);
    const reached = isIPv6(advertiseHost) ? `[${advertiseHost}]` : advertiseHost;
    return this.#port.announce(`${protocol}//${reached}:${this.#port.port}`);
  }

  /**
   * Connects to every other member and starts the collective on the links.
   * @throws CONNECT_FAILED, AUTH_FAILED, CONFIG_INVALID (an arena that does not fit, frames of a wrong size), ABORTED
   */
  async form({ config, rank, members, epoch, generation, firstStep, signal }: FormInit): Promise<Formed> {
    const { frameBytes, windowFrames: window, link: linkKind, socket } = config.collective;
    const { heartbeatTimeoutMs, stepTimeoutMs } = config.cluster;
    const plan = planGradient(config);
    const { numLanes } = config.training;
    const laneTree = planLaneTree(numLanes, assignLanes(numLanes, members.length).runs);
    const arena = new Arena(planArena({ plan, laneTree, rank, frameBytes, window }));
    const peers = members
      .filter((member) => member.rank !== rank)
      .map((member) => ({ rank: member.rank, url: member.dataUrl }));
    const links = await connectMesh({
      rank,
      peers,
      port: this.#port!,
      transport: this.#transport,
      token: this.#data.token,
      epoch,
      generation,
      linkKind,
      socket,
      frameBytes,
      window,
      numCoverNodes: laneTree.folds[rank]!.cover.length,
      onNoOutbox: this.#onNoOutbox,
      timeoutMs: heartbeatTimeoutMs,
      signal,
      clock: this.#clock,
    });
    const options = { frameBytes, window, timeoutMs: stepTimeoutMs + config.feed.sourceTimeoutMs };
    const ids = { rank, epoch, generation, firstStep };
    try {
      return {
        arena,
        collective: new Collective({ arena, plan, laneTree, ...ids, links, options, clock: this.#clock }),
      };
    } catch (error) {
      for (const link of links) link.close('INTERNAL', 'the collective could not be made');
      throw error;
    }
  }

  /** Resolves when nobody is listened to any more and the connections that came here are gone. */
  async close(): Promise<void> {
    await this.#port?.close();
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
