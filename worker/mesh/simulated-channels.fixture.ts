/**
 * Channels between ranks of one process with seeded timing: for property tests of the all-reduce.
 *
 * Each frame first waits in its sender (its payload is still the sender's memory). Then the "kernel" accepts it (a copy; the send resolves),
 * then it is delivered. Every `runEvent` runs one waiting event at random. Frames of one channel stay in order; frames of different
 * channels overtake each other freely.
 */
import { TrainerError, toTrainerError } from '../../shared/errors.ts';
import type { RandomStream } from '../../shared/random.ts';
import type { FrameHeader } from './frame-header.ts';
import type { FrameSink, PeerChannel } from './peer-channel.ts';

interface SentFrame {
  readonly header: FrameHeader;
  payload: Uint8Array;
  readonly taken: () => void;
}

class SimulatedChannel implements PeerChannel {
  readonly peerRank: number;
  readonly roundTripMs = 0;
  readonly closed: Promise<void>;
  readonly outbox: SentFrame[] = [];
  readonly wire: SentFrame[] = [];
  sink: FrameSink | null = null;
  /** The peer's channel back to this rank. */
  peer: SimulatedChannel | null = null;
  open = true;
  isReady = false;
  window = 0;
  acceptedBytes = 0;
  deliveredBytes = 0;

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
    if (!this.open)
      return Promise.reject(new TrainerError('CONNECTION_LOST', `rank ${this.peerRank}: channel is closed`));
    return new Promise((resolve) => this.outbox.push({ header, payload, taken: resolve }));
  }

  close(code: string, reason: string): void {
    if (!this.open) return;
    this.open = false;
    this.#gone();
    this.sink?.closed(new TrainerError('CONNECTION_LOST', `channel to rank ${this.peerRank} closed here`));
    const peer = this.peer!;
    if (!peer.open) return;
    peer.open = false;
    peer.#gone();
    peer.sink?.closed(
      new TrainerError('CONNECTION_LOST', `connection to rank ${peer.peerRank} closed: ${code} ${reason}`),
    );
  }
}

export class SimulatedMesh {
  /** Changes a frame on its way; for fault tests. Called when a frame is delivered. */
  tamper: (from: number, header: FrameHeader, payload: Uint8Array) => FrameHeader = (_from, header) => header;
  readonly #channels: SimulatedChannel[][] = [];

  constructor(worldSize: number) {
    for (let rank = 0; rank < worldSize; rank++)
      this.#channels.push(Array.from({ length: worldSize }, (_, peer) => new SimulatedChannel(peer)));
    for (let rank = 0; rank < worldSize; rank++)
      for (let peer = 0; peer < worldSize; peer++) this.#channels[rank]![peer]!.peer = this.#channels[peer]![rank]!;
  }

  channelsOf(rank: number): PeerChannel[] {
    return this.#channels[rank]!.filter(({ peerRank }) => peerRank !== rank);
  }

  /** Payload bytes that the kernel of a rank has accepted. */
  sentBytes(rank: number): number {
    return this.#channels[rank]!.reduce((sum, channel) => sum + channel.acceptedBytes, 0);
  }

  /** Payload bytes that were delivered to a rank. */
  receivedBytes(rank: number): number {
    return this.#channels[rank]!.reduce((sum, channel) => sum + channel.peer!.deliveredBytes, 0);
  }

  /** Number of channels that are still open; 0 after every rank has closed or failed. */
  get numOpen(): number {
    return this.#channels.flatMap((channels, rank) =>
      channels.filter((channel) => channel.peerRank !== rank && channel.open),
    ).length;
  }

  /** Runs one waiting event chosen by `random`; false when none waits. */
  runEvent(random: RandomStream): boolean {
    const events: (() => void)[] = [];
    for (const [rank, channels] of this.#channels.entries())
      for (const channel of channels) {
        if (channel.peerRank === rank || !channel.open) continue;
        const peer = channel.peer!;
        if (!channel.isReady && channel.sink !== null && peer.sink !== null)
          events.push(() => {
            channel.isReady = true;
            channel.sink!.ready(peer.window);
          });
        const [first] = channel.outbox;
        if (first !== undefined)
          events.push(() => {
            channel.outbox.shift();
            first.payload = Uint8Array.from(first.payload);
            channel.acceptedBytes += first.payload.length;
            channel.wire.push(first);
            first.taken();
          });
        if (channel.wire.length > 0) events.push(() => this.#deliver(rank, channel));
      }
    if (events.length === 0) return false;
    events[random.nextBelow(events.length)]!();
    return true;
  }

  #deliver(rank: number, channel: SimulatedChannel): void {
    const { header, payload } = channel.wire.shift()!;
    channel.deliveredBytes += payload.length;
    const sink = channel.peer!.sink!;
    try {
      const found = this.tamper(rank, header, payload);
      sink.targetFor(found).set(payload);
      sink.received(found);
    } catch (error) {
      sink.closed(toTrainerError(error));
    }
  }
}
