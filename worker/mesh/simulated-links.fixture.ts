/**
 * Links between ranks of one process whose timing is a seed: for property tests of the all-reduce.
 *
 * Each frame first waits in its sender (its payload is still the sender's memory), then is taken by the "kernel" (copied, the
 * send resolves), then is delivered; every `run` of an event picks one of the waiting ones at random. Frames of one link stay
 * in order, frames of different links overtake each other freely.
 */
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import type { RandomStream } from '../../shared/random.ts';
import type { FrameHeader } from './frame-header.ts';
import type { FrameSink, Link } from './peer-channel.ts';

interface SentFrame {
  readonly header: FrameHeader;
  payload: Uint8Array;
  readonly taken: () => void;
}

class SimulatedLink implements Link {
  readonly peerRank: number;
  readonly roundTripMs = 0;
  readonly closed: Promise<void>;
  readonly outbox: SentFrame[] = [];
  readonly wire: SentFrame[] = [];
  sink: FrameSink | null = null;
  /** The link of the peer back to this rank. */
  peer: SimulatedLink | null = null;
  open = true;
  isReady = false;
  window = 0;

  #gone!: () => void;

  constructor(peerRank: number) {
    this.peerRank = peerRank;
    this.closed = new Promise((resolve) => (this.#gone = resolve));
  }

  start(sink: FrameSink, window: number): void {
    this.sink = sink;
    this.window = window;
  }

  send(header: FrameHeader, payload: Uint8Array): Promise<void> {
    if (!this.open) return Promise.reject(new TrainerError('CONNECTION_LOST', `rank ${this.peerRank}: link is closed`));
    return new Promise((resolve) => this.outbox.push({ header, payload, taken: resolve }));
  }

  close(code: string, reason: string): void {
    if (!this.open) return;
    this.open = false;
    this.#gone();
    this.sink?.closed(new TrainerError('CONNECTION_LOST', `link to rank ${this.peerRank} closed here`));
    const peer = this.peer!;
    if (!peer.open) return;
    peer.open = false;
    peer.#gone();
    peer.sink?.closed(
      new TrainerError('CONNECTION_LOST', `connection to rank ${peer.peerRank} closed: ${code} ${reason}`),
    );
  }
}

export class SimulatedNetwork {
  /** Changes a frame on its way; for fault tests. Called when a frame is delivered. */
  tamper: (from: number, header: FrameHeader, payload: Uint8Array) => FrameHeader = (_from, header) => header;
  readonly #links: SimulatedLink[][] = [];

  constructor(worldSize: number) {
    for (let rank = 0; rank < worldSize; rank++)
      this.#links.push(Array.from({ length: worldSize }, (_, peer) => new SimulatedLink(peer)));
    for (let rank = 0; rank < worldSize; rank++)
      for (let peer = 0; peer < worldSize; peer++) this.#links[rank]![peer]!.peer = this.#links[peer]![rank]!;
  }

  linksOf(rank: number): Link[] {
    return this.#links[rank]!.filter(({ peerRank }) => peerRank !== rank);
  }

  /** Number of links that are still open; 0 after every rank has closed or failed. */
  get numOpen(): number {
    return this.#links.flatMap((links, rank) => links.filter((link) => link.peerRank !== rank && link.open)).length;
  }

  /** Runs one waiting event chosen by `random`; false when none waits. */
  runEvent(random: RandomStream): boolean {
    const events: (() => void)[] = [];
    for (const [rank, links] of this.#links.entries())
      for (const link of links) {
        if (link.peerRank === rank || !link.open) continue;
        const peer = link.peer!;
        if (!link.isReady && link.sink !== null && peer.sink !== null)
          events.push(() => {
            link.isReady = true;
            link.sink!.ready(peer.window);
          });
        const [first] = link.outbox;
        if (first !== undefined)
          events.push(() => {
            link.outbox.shift();
            first.payload = Uint8Array.from(first.payload);
            link.wire.push(first);
            first.taken();
          });
        if (link.wire.length > 0) events.push(() => this.#deliver(rank, link));
      }
    if (events.length === 0) return false;
    events[random.nextBelow(events.length)]!();
    return true;
  }

  #deliver(rank: number, link: SimulatedLink): void {
    const { header, payload } = link.wire.shift()!;
    const sink = link.peer!.sink!;
    try {
      const found = this.tamper(rank, header, payload);
      sink.place(found).set(payload);
      sink.received(found);
    } catch (error) {
      sink.closed(toTrainerError(error));
    }
  }
}
