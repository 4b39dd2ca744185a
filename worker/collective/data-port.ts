/**
 * The one listening data port of a worker, with a local socket beside it: opened before it joins, kept over generations.
 *
 * Path of a data connection: `/data/<epoch>/<generation>/<sender>/<receiver>` (ranks); the receiver dials, the sender listens.
 * Only the generation that is expected gets in, one connection for each receiver; all else is refused before a byte is read.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { Connection, Listener, Refusal, Transport } from '../../shared/transport/transport.ts';
import { readLocality } from '../../shared/transport/local-socket.ts';
import { formatDataAddress } from './data-address.ts';
import { MAX_READY_BYTES } from './peer-link.ts';

export interface DataPortInit {
  readonly transport: Transport;
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  readonly token: string;
  readonly onRefused?: (refusal: Refusal) => void;
}

export interface MeshIdentity {
  readonly epoch: number;
  readonly generation: number;
  readonly rank: number;
  readonly worldSize: number;
}

// What waits to be sent are views of the arena, not copies; the window of the all-reduce bounds it far below this.
const MAX_QUEUED_BYTES = 2 ** 32;
const MAX_QUEUED_FRAMES = 65536;

export function formatDataPath({ epoch, generation }: MeshIdentity, sender: number, receiver: number): string {
  return `/data/${epoch}/${generation}/${sender}/${receiver}`;
}

/** The connections of one generation that peers have made to this worker. */
export class ExpectedPeers {
  readonly identity: MeshIdentity;
  readonly connections = new Map<number, Connection>();
  /** Called after every new connection. */
  onChange: () => void = () => undefined;

  constructor(identity: MeshIdentity) {
    this.identity = identity;
  }

  /** Ranks that have not connected. */
  get missing(): number[] {
    const { rank, worldSize } = this.identity;
    return Array.from({ length: worldSize }, (_, peer) => peer).filter(
      (peer) => peer !== rank && !this.connections.has(peer),
    );
  }

  add(peer: number, connection: Connection): void {
    this.connections.set(peer, connection);
    void connection.closed.then(() => this.connections.delete(peer)); // it may dial again
    this.onChange();
  }
}

export class DataPort {
  readonly #listener: Listener;
  #expected: ExpectedPeers | null = null;

  private constructor(listener: Listener) {
    this.#listener = listener;
  }

  /** @throws PORT_IN_USE */
  static async open({ transport, host, port, token, onRefused }: DataPortInit): Promise<DataPort> {
    // Nobody can have been told the port before `listen` returns; whoever guesses it is refused.
    let self = null as DataPort | null;
    const listener = await transport.listen({
      host,
      port,
      token,
      localSocket: true,
      limits: {
        maxMessageBytes: MAX_READY_BYTES,
        maxQueuedBytes: MAX_QUEUED_BYTES,
        maxQueuedMessages: MAX_QUEUED_FRAMES,
      },
      admit: (path) => (self === null ? 'not open yet' : self.#admit(path)),
      onConnection: (connection) => {
        if (self !== null) self.#accept(connection);
      },
      ...(onRefused && { onRefused }),
    });
    self = new DataPort(listener);
    return self;
  }

  get port(): number {
    return this.#listener.port;
  }

  /** To dial it from the same host. */
  get url(): string {
    return this.#listener.url;
  }

  /** Of its local socket, or null. */
  get localUrl(): string | null {
    return this.#listener.localUrl;
  }

  /** What to tell the other members. @param url by which they reach the port over the network */
  announce(url: string): string {
    return formatDataAddress(url, readLocality(), this.#listener.localUrl);
  }

  /** From now on admits the peers of this generation only. Connections of earlier ones stay until their links close them. */
  expect(identity: MeshIdentity): ExpectedPeers {
    this.#expected = new ExpectedPeers(identity);
    return this.#expected;
  }

  /** Admits nobody, unless another generation is expected by now. */
  stopExpecting(expected: ExpectedPeers): void {
    if (this.#expected === expected) this.#expected = null;
  }

  close(): Promise<void> {
    this.#expected = null;
    return this.#listener.close();
  }

  #admit(path: string): string | null {
    const parsed = parseDataPath(path);
    if (parsed === null) return `expected a path /data/epoch/generation/sender/receiver`;
    if (this.#expected === null) return 'no generation is being connected here now';
    const { epoch, generation, rank, worldSize } = this.#expected.identity;
    if (parsed.epoch !== epoch || parsed.generation !== generation)
      return `expected epoch ${epoch} generation ${generation}, got epoch ${parsed.epoch} generation ${parsed.generation}`;
    if (parsed.sender !== rank) return `this is rank ${rank}, not rank ${parsed.sender}`;
    const { receiver } = parsed;
    if (receiver === rank || receiver >= worldSize)
      return `rank ${receiver} is no peer of rank ${rank} in a world of ${worldSize}`;
    if (this.#expected.connections.has(receiver))
      return `rank ${receiver} has a data connection of generation ${generation} already`;
    return null;
  }

  #accept(connection: Connection): void {
    const parsed = parseDataPath(connection.path);
    if (parsed === null || this.#expected === null)
      throw new TrainerError('INTERNAL', `data connection ${connection.path} was accepted without being admitted`);
    this.#expected.add(parsed.receiver, connection);
  }
}

function parseDataPath(path: string): { epoch: number; generation: number; sender: number; receiver: number } | null {
  const found = /^\/data\/(\d{1,10})\/(\d{1,10})\/(\d{1,5})\/(\d{1,5})$/.exec(path);
  if (found === null) return null;
  const [epoch, generation, sender, receiver] = found.slice(1).map(Number);
  return { epoch: epoch!, generation: generation!, sender: sender!, receiver: receiver! };
}
