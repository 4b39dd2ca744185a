/** A coordinator without a run, for tests of the worker: hears what workers say, and says what the test wants. */
import { assignLanes } from '../shared/assign-lanes.ts';
import { decodeMessage, encodeMessage } from '../shared/protocol/codec.ts';
import {
  workerMessageSchema,
  type CoordinatorMessage,
  type Member,
  type MessageOf,
  type WorkerMessage,
} from '../shared/protocol/messages.ts';
import { TrainerError } from '../shared/errors.ts';
import type { CloseInfo, Connection, Listener, Transport } from '../shared/transport/transport.ts';

/** Longest wait for a message of a worker, ms: a test that would wait longer has failed. */
const RECEIVE_DEADLINE_MS = 120_000;

type Kind = WorkerMessage['kind'];

/** One connection of a worker. */
export class ScriptedPeer {
  /** All messages in their order, heartbeats left out. */
  readonly received: Exclude<WorkerMessage, { kind: 'heartbeat' }>[] = [];
  readonly heartbeats: MessageOf<'heartbeat', WorkerMessage>[] = [];
  /** Answers heartbeats as a coordinator does. */
  answersHeartbeats = true;
  readonly #connection: Connection;
  readonly #taken = new Map<Kind, number>();
  #wake = new Set<() => void>();

  constructor(connection: Connection) {
    this.#connection = connection;
    connection.onMessage((bytes) => {
      const message = decodeMessage(workerMessageSchema, bytes);
      if (message.kind === 'heartbeat') {
        this.heartbeats.push(message);
        if (this.answersHeartbeats) this.send({ kind: 'heartbeat' });
      } else this.received.push(message);
      for (const wake of this.#wake) wake();
    });
  }

  get closed(): Promise<CloseInfo> {
    return this.#connection.closed;
  }

  /** The next message of that kind which has not been asked for; fails where the worker leaves without it. */
  async receive<K extends Exclude<Kind, 'heartbeat'>>(kind: K): Promise<MessageOf<K>> {
    const index = this.#taken.get(kind) ?? 0;
    this.#taken.set(kind, index + 1);
    const find = () => this.received.filter((message) => message.kind === kind)[index] as MessageOf<K> | undefined;
    return this.#wait(kind, find);
  }

  /** Resolves after `count` more heartbeats. */
  async beats(count: number): Promise<void> {
    const wanted = this.heartbeats.length + count;
    await this.#wait('heartbeat', () => this.heartbeats[wanted - 1]);
  }

  /** What `find` gives, once it gives something; it is asked again at each message. */
  async #wait<T>(what: string, find: () => T | undefined): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    let check: (() => void) | undefined;
    try {
      return await new Promise((resolve, reject) => {
        const fail = (why: string): void => {
          const messages = this.received.map((message) => JSON.stringify(message).slice(0, 300)).join('\n');
          reject(new TrainerError('INTERNAL', `waited for ${what}: ${why}; the worker sent\n${messages}`));
        };
        check = () => {
          const found = find();
          if (found !== undefined) resolve(found);
        };
        this.#wake.add(check);
        check();
        timer = setTimeout(() => fail('none came in time'), RECEIVE_DEADLINE_MS);
        void this.closed.then(({ code, reason }) => fail(`closed with ${code} ${reason}`));
      });
    } finally {
      clearTimeout(timer);
      if (check !== undefined) this.#wake.delete(check);
    }
  }

  send(message: CoordinatorMessage): void {
    this.sendBytes(encodeMessage(message));
  }

  sendBytes(bytes: Uint8Array): void {
    this.#connection.send([bytes]).catch(() => undefined); // a test may have closed it
  }

  close(code: Parameters<Connection['close']>[0], reason: string): void {
    this.#connection.close(code, reason);
  }
}

export class ScriptedCoordinator {
  readonly url: string;
  readonly #listener: Listener;
  readonly #peers: ScriptedPeer[];
  #numTaken = 0;
  readonly #onPeer: Set<() => void>;

  private constructor(listener: Listener, peers: ScriptedPeer[], onPeer: Set<() => void>) {
    this.url = listener.url;
    this.#listener = listener;
    this.#peers = peers;
    this.#onPeer = onPeer;
  }

  /** @param port 0 takes a free one */
  static async listen(transport: Transport, token: string, port = 0): Promise<ScriptedCoordinator> {
    const peers: ScriptedPeer[] = [];
    const onPeer = new Set<() => void>();
    const listener = await transport.listen({
      host: '127.0.0.1',
      port,
      token,
      onConnection: (connection) => {
        peers.push(new ScriptedPeer(connection));
        for (const check of onPeer) check();
      },
    });
    return new ScriptedCoordinator(listener, peers, onPeer);
  }

  /** The next worker that dials. */
  async peer(): Promise<ScriptedPeer> {
    const index = this.#numTaken++;
    return new Promise((resolve) => {
      const check = (): void => {
        const peer = this.#peers[index];
        if (peer === undefined) return;
        this.#onPeer.delete(check);
        resolve(peer);
      };
      this.#onPeer.add(check);
      check();
    });
  }

  async close(): Promise<void> {
    await this.#listener.close();
  }
}

/** The members of a generation from their joins, ranks and lanes in that order. */
export function membersOf(joins: readonly MessageOf<'join'>[], numLanes: number): Member[] {
  const { runs } = assignLanes(numLanes, joins.length);
  return joins.map(({ workerId, host, dataUrl }, rank) => {
    const { first, end } = runs[rank]!;
    return { workerId, host, dataUrl, rank, lanes: { first, end } };
  });
}
