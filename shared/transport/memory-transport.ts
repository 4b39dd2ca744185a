/** A Transport inside one process, for tests: the same rules and codes, without sockets. Messages are copied. */
import { nameLocation } from '../storage/location.ts';
import { abortedError, throwIfAborted } from '../abort.ts';
import { systemClock, type Clock } from '../clock.ts';
import { TrainerError, type ErrorCode } from '../errors.ts';
import { Backlog } from './backlog.ts';
import { authenticate } from './memory-admission.ts';
import { toCloseCode, toCloseInfo, toCloseReason } from './close-codes.ts';
import { Pings } from './pings.ts';
import {
  DEFAULT_CONNECTION_LIMITS,
  type CloseInfo,
  type Connection,
  type ConnectionLimits,
  type DialInit,
  type Listener,
  type ListenInit,
  type SendOptions,
  type Transport,
} from './transport.ts';

/** Each instance is a separate network. */
export class MemoryTransport implements Transport {
  readonly scheme = 'memory';
  readonly #ports = new Map<string, { init: ListenInit; connections: Set<MemoryConnection> }>();
  #nextPort = 1;

  listen(init: ListenInit): Promise<Listener> {
    const port = init.port === 0 ? this.#nextPort++ : init.port;
    const url = `memory://${init.host}:${port}`;
    if (this.#ports.has(url)) return Promise.reject(new TrainerError('PORT_IN_USE', `cannot listen on ${url}: taken`));
    const connections = new Set<MemoryConnection>();
    this.#ports.set(url, { init, connections });
    const close = async (): Promise<void> => {
      this.#ports.delete(url);
      for (const connection of connections) connection.close('NORMAL', 'the listener closes');
      await Promise.all([...connections].map(({ closed }) => closed));
    };
    return Promise.resolve({ port, url, localUrl: null, close });
  }

  async dial(url: string, dial: DialInit): Promise<Connection> {
    const { timeoutMs, signal, limits, clock } = dial;
    throwIfAborted(signal, `connecting to ${nameLocation(url)}`);
    const parsed = URL.canParse(url) ? new URL(url) : null;
    if (parsed?.protocol !== 'memory:')
      throw new TrainerError('CONFIG_INVALID', `address: expected memory://host:port/path, found ${nameLocation(url)}`);
    await nextTurn();
    const listening = this.#ports.get(`memory://${parsed.host}`);
    if (listening === undefined)
      throw new TrainerError(
        'CONNECT_FAILED',
        `cannot connect to ${nameLocation(url)} within ${timeoutMs} ms: nobody listens`,
        {
          retryable: true,
        },
      );
    const { init, connections } = listening;
    const path = parsed.pathname + parsed.search;
    const remote = 'memory';
    const greeting = authenticate(init, dial, { url, path, remote });
    const near = new MemoryConnection(
      { peer: url, path, greeting },
      { ...DEFAULT_CONNECTION_LIMITS, ...limits },
      clock,
    );
    const far = new MemoryConnection(
      { peer: remote, path, greeting },
      { ...DEFAULT_CONNECTION_LIMITS, ...init.limits },
      init.clock,
    );
    near.join(far);
    far.join(near);
    connections.add(far);
    void far.closed.then(() => connections.delete(far));
    init.onConnection(far);
    return near;
  }
}

class MemoryConnection implements Connection {
  readonly peer: string;
  readonly path: string;
  readonly greeting: string;
  readonly closed: Promise<CloseInfo>;
  readonly #limits: ConnectionLimits;
  #other!: MemoryConnection;
  /** Sent by this side, not yet received by the other. */
  readonly #queue: Backlog;
  readonly #pings: Pings;
  #isPumping = false;
  /** No message has left this side. */
  #isFirstOpen = true;
  #handler: ((data: Uint8Array) => void) | null = null;
  #isOpen = true;
  #end!: (info: CloseInfo) => void;

  constructor(
    { peer, path, greeting }: Pick<Connection, 'peer' | 'path' | 'greeting'>,
    limits: ConnectionLimits,
    clock: Clock = systemClock,
  ) {
    this.peer = peer;
    this.path = path;
    this.greeting = greeting;
    this.#limits = limits;
    this.#queue = new Backlog({ peer, limits, onQueued: () => void this.#pump() });
    this.#pings = new Pings({
      peer,
      clock,
      send: (number) => void nextTurn().then(() => this.#pings.answered(number)),
    });
    this.closed = new Promise((resolve) => (this.#end = resolve));
  }

  join(other: MemoryConnection): void {
    this.#other = other;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  send(parts: readonly Uint8Array[], { signal }: SendOptions = {}): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(abortedError('sending', signal));
    if (!this.#isOpen) return Promise.reject(this.#lost());
    return this.#queue.push(parts, signal);
  }

  onMessage(handler: (data: Uint8Array) => void): void {
    if (this.#handler !== null)
      throw new TrainerError('INTERNAL', `connection to ${this.peer}: onMessage was set twice`);
    this.#handler = handler;
    void this.#other.#pump();
  }

  ping(timeoutMs: number, signal?: AbortSignal): Promise<number> {
    return this.#isOpen ? this.#pings.send(timeoutMs, signal) : Promise.reject(this.#lost());
  }

  close(code: ErrorCode | 'NORMAL', reason: string): void {
    if (!this.#isOpen) return;
    const number = toCloseCode(code);
    const error = new TrainerError(
      code === 'NORMAL' ? 'ABORTED' : code,
      `connection to ${this.peer} closed here: ${reason}`,
    );
    const info = { code: number, reason: toCloseReason(reason) };
    this.#finish(code === 'NORMAL' ? info : { ...info, error });
    this.#other.#finish(toCloseInfo(number, info.reason, this.#other.peer));
  }

  #finish(info: CloseInfo): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#queue.end(this.#lost());
    this.#pings.end(this.#lost());
    this.#end(info);
  }

  /** Passes queued messages to the other side's handler, one per turn of the event loop. */
  async #pump(): Promise<void> {
    if (this.#isPumping) return;
    this.#isPumping = true;
    while (this.#queue.length > 0 && this.#other.#handler !== null) {
      await nextTurn();
      const message = this.#queue.shift();
      if (message === undefined) break;
      const { maxMessageBytes, maxFirstMessageBytes } = this.#other.#limits;
      const limit = this.#isFirstOpen ? Math.min(maxFirstMessageBytes, maxMessageBytes) : maxMessageBytes;
      this.#isFirstOpen = false;
      if (message.numBytes > limit) {
        message.finish(null);
        this.#other.close('MESSAGE_TOO_LARGE', `expected at most ${limit} B, got ${message.numBytes} B`);
        break;
      }
      const data = new Uint8Array(Buffer.concat(message.parts));
      message.finish(null);
      this.#other.#handler(data);
    }
    this.#isPumping = false;
  }

  #lost(): TrainerError {
    return new TrainerError('CONNECTION_LOST', `connection to ${this.peer} is closed`);
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
