/**
 * Faults on request, to prove that a run survives them (docs/chaos.md): a bit of a frame that flips on its way, and a partition. Made in
 * the link thread, the owner of all sockets of a worker, and executed only where the run allows it (`cluster.allowFaults`).
 *
 * A partition holds every socket of the thread, control and data, and those that are opened meanwhile: nothing is read from them, what is
 * written waits. Both ends stay up and their clocks go on. Assumption: a socket that this side destroys meanwhile still says so to its
 * peer, which a cut cable would not.
 *
 * Where the run does not allow faults, sockets are not watched from the first welcome on and links are left as they are.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Socket } from 'node:net';
import type { Clock } from '../../shared/clock.ts';
import type { CoordinatorMessage } from '../../shared/protocol/messages.ts';
import { FRAME_PART, type FrameHeader } from '../mesh/frame-header.ts';
import type { FrameSink, Link } from '../mesh/peer-channel.ts';

type FaultMessage = Extract<CoordinatorMessage, { kind: 'fault' }>;

/** Where node tells of the sockets that a thread dials and accepts. */
const CHANNELS = ['net.client.socket', 'net.server.socket'] as const;

export interface FaultInjectorInit {
  readonly clock: Clock;
  /** Ends a partition early. */
  readonly signal: AbortSignal;
}

export class FaultInjector {
  readonly #init: FaultInjectorInit;
  readonly #sockets = new Set<Socket>();
  #isAllowed = true;
  /** Frames to corrupt. */
  #numToCorrupt = 0;
  /** Fires when the partition is over; undefined where there is none. */
  #partition: AbortController | undefined;

  constructor(init: FaultInjectorInit) {
    this.#init = init;
    for (const channel of CHANNELS) subscribe(channel, this.#onSocket);
  }

  /** Told with every welcome. */
  allow(isAllowed: boolean): void {
    if (isAllowed === this.#isAllowed) return;
    this.#isAllowed = isAllowed;
    const change = isAllowed ? subscribe : unsubscribe;
    for (const channel of CHANNELS) change(channel, this.#onSocket);
    if (!isAllowed) this.#sockets.clear();
  }

  /** Executes a fault; assumes that the run allows it. */
  take({ fault, forMs }: FaultMessage): void {
    if (fault === 'corrupt') this.#numToCorrupt = 1;
    else void this.#divide(forMs);
  }

  /** The links of a generation, able to corrupt a frame where faults are allowed. */
  guard(links: readonly Link[]): readonly Link[] {
    return this.#isAllowed ? links.map((link) => new GuardedLink(link, () => this.#takeCorruption())) : links;
  }

  readonly #onSocket = (message: unknown): void => {
    const { socket } = message as { socket?: unknown }; // documented by node for both channels
    if (!(socket instanceof Socket)) return;
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    if (this.#partition !== undefined) hold(socket, this.#partition.signal);
  };

  #takeCorruption(): boolean {
    if (this.#numToCorrupt === 0) return false;
    this.#numToCorrupt--;
    return true;
  }

  /** One at a time: a second one that comes through is none. */
  async #divide(forMs: number): Promise<void> {
    if (this.#partition !== undefined) return;
    const { clock, signal } = this.#init;
    const partition = new AbortController();
    this.#partition = partition;
    for (const socket of this.#sockets) hold(socket, partition.signal);
    await clock.sleep(forMs, signal).catch(() => undefined);
    this.#partition = undefined;
    partition.abort();
  }
}

/** @param over fires when it may carry bytes again */
function hold(socket: Socket, over: AbortSignal): void {
  // Whoever reads from it may ask it to go on meanwhile.
  const pause = (): void => void socket.pause();
  socket.cork();
  socket.pause();
  socket.on('resume', pause);
  const release = (): void => {
    socket.off('resume', pause);
    if (socket.destroyed) return;
    socket.uncork();
    socket.resume();
  };
  over.addEventListener('abort', release, { once: true });
}

/** A link that flips a bit of a part when it is told to, after its checksum was made. */
class GuardedLink implements Link {
  readonly #link: Link;
  readonly #takeCorruption: () => boolean;

  constructor(link: Link, takeCorruption: () => boolean) {
    this.#link = link;
    this.#takeCorruption = takeCorruption;
  }

  get peerRank(): number {
    return this.#link.peerRank;
  }

  get roundTripMs(): number {
    return this.#link.roundTripMs;
  }

  get closed(): Promise<void> {
    return this.#link.closed;
  }

  start(sink: FrameSink, window: number): void {
    this.#link.start(sink, window);
  }

  send(header: FrameHeader, payload: Uint8Array): Promise<void> {
    // A sum may be in the outbox already for another peer, and would not be written again.
    if (header.type !== FRAME_PART || payload.length === 0 || !this.#takeCorruption())
      return this.#link.send(header, payload);
    const flipped = new Uint8Array(payload);
    flipped[flipped.length >> 1]! ^= 1;
    return this.#link.send(header, flipped);
  }

  close(...why: Parameters<Link['close']>): void {
    this.#link.close(...why);
  }
}
