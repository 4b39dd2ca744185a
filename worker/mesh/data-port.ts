/**
 * The listening data port of a worker, with a local socket beside it. It opens before the worker joins and stays open over generations.
 *
 * Path of a data connection: `/data/<epoch>/<generation>/<sender>/<receiver>` (ranks); the receiver dials, the sender listens.
 * Of a state connection: `/state/<epoch>/<generation>/<holder>/<receiver>`. Of a link trial (probe-links.ts): `/probe/<epoch>/<trial>/…` alike.
 * The three kinds are admitted independently of each other.
 * It admits the expected generation or trial only, one connection of a kind for each receiver. Both ends prove the secret of the generation
 * (mutual-proof.ts) before a frame or request is read; the token of the run does not come here.
 */
import { TrainerError } from '../../shared/errors.ts';
import type { Connection, Listener, Refusal, Transport } from '../../shared/transport/transport.ts';
import { readLocality } from '../../shared/transport/local-socket.ts';
import { formatDataAddress } from '../../shared/transport/data-address.ts';
import { PROOF_BYTES, type Challenge } from '../../shared/transport/mutual-proof.ts';
import { MAX_READY_BYTES } from './duplex-channel.ts';

export interface DataPortInit {
  readonly transport: Transport;
  readonly host: string;
  /** 0 = any free port. */
  readonly port: number;
  readonly onRefused?: (refusal: Refusal) => void;
}

export interface MeshIdentity {
  readonly epoch: number;
  /** For probes: the number of the trial. */
  readonly generation: number;
  readonly rank: number;
  readonly worldSize: number;
  /** Of the generation, from `form`; of the trial, from `probe-links`. */
  readonly secret: Uint8Array;
}

/** Most sockets that have not proved the secret: all peers of a generation dial at the same time. */
const MAX_UNAUTHENTICATED = 256;

/** Bytes of one state request (state-frames.ts): the port accepts no longer message. */
export const STATE_REQUEST_BYTES = 24;
// What waits to be sent are views of the arena, not copies; the window of the all-reduce bounds it far below this.
const MAX_QUEUED_BYTES = 2 ** 32;
const MAX_QUEUED_FRAMES = 65536;

export function formatDataPath(
  { epoch, generation }: Pick<MeshIdentity, 'epoch' | 'generation'>,
  sender: number,
  receiver: number,
): string {
  return `/data/${epoch}/${generation}/${sender}/${receiver}`;
}

export function formatStatePath(
  { epoch, generation }: Pick<MeshIdentity, 'epoch' | 'generation'>,
  holder: number,
  receiver: number,
): string {
  return `/state/${epoch}/${generation}/${holder}/${receiver}`;
}

export function formatProbePath({ epoch, trial }: TrialNumber, listener: number, dialler: number): string {
  return `/probe/${epoch}/${trial}/${listener}/${dialler}`;
}

export interface TrialNumber {
  readonly epoch: number;
  readonly trial: number;
}

/** The connections of one generation and kind that peers have made to this worker. */
export class ExpectedPeers {
  readonly identity: MeshIdentity;
  readonly connections = new Map<number, Connection>();
  /** Told to each receiver before its first message. */
  readonly greetingFor: (receiver: number) => string;
  /** Called after every new connection. */
  onChange: (connection: Connection, peer: number) => void = () => undefined;

  constructor(identity: MeshIdentity, greetingFor: (receiver: number) => string = () => '') {
    this.identity = identity;
    this.greetingFor = greetingFor;
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
    this.onChange(connection, peer);
  }
}

export class DataPort {
  readonly #listener: Listener;
  readonly #admitted: Record<ConnectionKind, ExpectedPeers | null> = { data: null, state: null, probe: null };

  private constructor(listener: Listener) {
    this.#listener = listener;
  }

  /** @throws PORT_IN_USE */
  static async open({ transport, host, port, onRefused }: DataPortInit): Promise<DataPort> {
    // No peer knows the port before `listen` returns; a connection that guesses it is refused.
    let self = null as DataPort | null;
    const listener = await transport.listen({
      host,
      port,
      localSocket: true,
      maxUnauthenticated: MAX_UNAUTHENTICATED,
      limits: {
        maxMessageBytes: Math.max(PROOF_BYTES, MAX_READY_BYTES, STATE_REQUEST_BYTES),
        maxQueuedBytes: MAX_QUEUED_BYTES,
        maxQueuedMessages: MAX_QUEUED_FRAMES,
      },
      challenge: (path) => (self === null ? 'not open yet' : self.#challenge(path)),
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

  /** The address to announce to the other members. @param url by which they reach the port over the network */
  announce(url: string): string {
    return formatDataAddress(url, readLocality(), this.#listener.localUrl);
  }

  /** From now on admits the peers of this generation only. Connections of earlier ones stay until their channels close them. */
  expect(identity: MeshIdentity, greetingFor?: (receiver: number) => string): ExpectedPeers {
    return (this.#admitted.data = new ExpectedPeers(identity, greetingFor));
  }

  /**
   * Admits peers of this generation that copy the state, or of this trial that probe the link, from now on, whether or not the mesh is being
   * connected; peers of an earlier one no more. Connections stay until either side closes them.
   * @param onConnection gets each connection with the rank of the peer
   */
  serve(
    kind: 'state' | 'probe',
    identity: MeshIdentity,
    onConnection: (connection: Connection, peer: number) => void,
  ): ExpectedPeers {
    const served = new ExpectedPeers(identity);
    served.onChange = onConnection;
    return (this.#admitted[kind] = served);
  }

  /** Admits these peers no more. Those of another generation or trial that are admitted by now stay so. */
  stopAdmitting(peers: ExpectedPeers): void {
    for (const kind of CONNECTION_KINDS) if (this.#admitted[kind] === peers) this.#admitted[kind] = null;
  }

  close(): Promise<void> {
    for (const kind of CONNECTION_KINDS) this.#admitted[kind] = null;
    return this.#listener.close();
  }

  /** The secret of the path, or why it is not admitted. */
  #challenge(path: string): Challenge | string {
    const parsed = parsePath(path);
    if (parsed === null) return `expected a path /data/epoch/generation/sender/receiver, or /state/… or /probe/… alike`;
    const { kind, receiver } = parsed;
    const admitted = this.#admitted[kind];
    if (admitted === null) return NONE_ADMITTED[kind];
    const number = kind === 'probe' ? 'trial' : 'generation';
    const { epoch, generation, rank, worldSize } = admitted.identity;
    if (parsed.epoch !== epoch || parsed.generation !== generation)
      return `expected epoch ${epoch} ${number} ${generation}, got epoch ${parsed.epoch} ${number} ${parsed.generation}`;
    if (parsed.sender !== rank) return `this is rank ${rank}, not rank ${parsed.sender}`;
    if (receiver === rank || receiver >= worldSize)
      return `rank ${receiver} is no peer of rank ${rank} in a world of ${worldSize}`;
    if (admitted.connections.has(receiver))
      return `rank ${receiver} has a ${kind} connection of ${number} ${generation} already`;
    return { secret: admitted.identity.secret, greeting: admitted.greetingFor(receiver) };
  }

  #accept(connection: Connection): void {
    const parsed = parsePath(connection.path);
    const admitted = parsed === null ? null : this.#admitted[parsed.kind];
    if (parsed === null || admitted === null)
      throw new TrainerError('INTERNAL', `connection ${connection.path} was accepted without being admitted`);
    admitted.add(parsed.receiver, connection);
  }
}

const CONNECTION_KINDS = ['data', 'state', 'probe'] as const;
type ConnectionKind = (typeof CONNECTION_KINDS)[number];

/** Why a path is refused where nobody is admitted. */
const NONE_ADMITTED: Readonly<Record<ConnectionKind, string>> = {
  data: 'no generation is being connected here now',
  state: 'no state is served here now',
  probe: 'no link is on trial here now',
};

interface ConnectionPath {
  readonly kind: ConnectionKind;
  readonly epoch: number;
  readonly generation: number;
  readonly sender: number;
  readonly receiver: number;
}

function parsePath(path: string): ConnectionPath | null {
  const found = /^\/(data|state|probe)\/(\d{1,10})\/(\d{1,10})\/(\d{1,5})\/(\d{1,5})$/.exec(path);
  if (found === null) return null;
  const [epoch, generation, sender, receiver] = found.slice(2).map(Number);
  const kind = CONNECTION_KINDS.find((name) => name === found[1])!;
  return { kind, epoch: epoch!, generation: generation!, sender: sender!, receiver: receiver! };
}
