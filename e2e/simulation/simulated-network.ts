/**
 * A network in virtual time, with its faults. Each process has its own SimulatedTransport. The seed determines delays, hand-overs and the
 * way a connection breaks.
 *
 * Assumption: TCP. Messages on an open connection are never lost, duplicated or reordered; they are delayed, or the connection breaks.
 */
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import { DEFAULT_CONNECTION_LIMITS, type ListenInit } from '../../shared/transport/transport.ts';
import { ConnectionEnd } from './simulated-connection.ts';
import type { VirtualTime } from './virtual-clock.ts';
import type { VirtualProcess } from './virtual-process.ts';

export interface NetworkOptions {
  /** Bounds of the delay of one message, ms. */
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
  /** Longest time until a side learns that a connection has broken, ms. */
  readonly maxBreakMs: number;
  /** Buffers of the kernels for one direction. */
  readonly kernelBytes: number;
  readonly kernelMessages: number;
}

const DEFAULT_NETWORK: NetworkOptions = {
  minDelayMs: 0.1,
  maxDelayMs: 5,
  maxBreakMs: 50,
  kernelBytes: 256 * 1024,
  kernelMessages: 256,
};

/** Port 0 becomes a port from here on, so it never equals a port that was given by number. */
const FIRST_EPHEMERAL_PORT = 40_000;

/** @returns the changed message; undefined to leave this message unchanged and wait for the next */
export type Alter = (data: Uint8Array) => Uint8Array | undefined;

/** Both ends of a connection, for faults. */
export interface SimulatedConnection {
  readonly path: string;
  /** The side that dialled. */
  readonly near: ConnectionEnd;
  readonly far: ConnectionEnd;
}

interface LiveConnection extends SimulatedConnection {
  isBlackHole: boolean;
  alter: Alter | undefined;
}

interface Partition {
  readonly a: VirtualProcess;
  /** null: all others. */
  readonly b: VirtualProcess | null;
}

export interface Listening {
  readonly process: VirtualProcess;
  readonly init: ListenInit;
  readonly accepted: Set<ConnectionEnd>;
}

export class SimulatedNetwork {
  readonly time: VirtualTime;
  readonly options: NetworkOptions;
  readonly #random: RandomStream;
  readonly #connections = new Set<LiveConnection>();
  readonly #ports = new Map<string, Listening>();
  readonly #partitions = new Set<Partition>();
  #waitingForHeal: (() => void)[] = [];
  #nextPort = FIRST_EPHEMERAL_PORT;
  #numBitsFlipped = 0;

  constructor(time: VirtualTime, seed: number, options: Partial<NetworkOptions> = {}) {
    this.time = time;
    this.options = { ...DEFAULT_NETWORK, ...options };
    this.#random = new RandomStream([seed, hashName('simulated-network')]);
  }

  /** Registers the kernel of a process. Called once per process, by its transport. */
  attach(process: VirtualProcess): void {
    process.onCrash(() => this.#crashed(process));
    process.onContinue(() => {
      for (const { near, far } of this.#connections)
        for (const end of [near, far]) if (end.process === process) end.continued();
    });
  }

  /** Live connections in the order of their creation; if given, only those of process `a`, or between `a` and `b`. */
  connections(a?: VirtualProcess, b?: VirtualProcess): SimulatedConnection[] {
    return [...this.#connections].filter(({ near, far }) => {
      const ends = [near.process, far.process];
      return (a === undefined || ends.includes(a)) && (b === undefined || ends.includes(b));
    });
  }

  /** Number of flipped bits. */
  get numBitsFlipped(): number {
    return this.#numBitsFlipped;
  }

  /** Breaks the connection; each side learns of it after a while. */
  cut(connection: SimulatedConnection): void {
    this.#live(connection).isBlackHole = true;
    for (const end of [connection.near, connection.far]) end.breakAfter(this.breakMs());
  }

  /** No message gets through any more; side `aware` learns of it soon, the other side only after `silentMs`. */
  halfOpen(connection: SimulatedConnection, aware: 'near' | 'far', silentMs: number): void {
    this.#live(connection).isBlackHole = true;
    connection[aware].breakAfter(this.breakMs());
    connection[aware === 'near' ? 'far' : 'near'].breakAfter(silentMs);
  }

  /**
   * For `forMs` no message gets through between two processes, or between one and all others.
   * @param connections existing ones delay their messages until then (`held`), or break
   */
  partition(a: VirtualProcess, b: VirtualProcess | null, forMs: number, connections: 'held' | 'broken'): void {
    const partition: Partition = { a, b };
    this.#partitions.add(partition);
    if (connections === 'broken')
      for (const connection of this.#connections)
        if (separates(partition, connection.near.process, connection.far.process)) this.cut(connection);
    this.time.schedule(forMs, `${a.name} | ${b?.name ?? 'all'} heals`, () => {
      this.#partitions.delete(partition);
      for (const { near, far } of this.#connections) for (const end of [near, far]) end.resume();
      for (const retry of this.#waitingForHeal.splice(0)) retry();
    });
  }

  /** Flips a bit of the next message above `aboveBytes` that is sent over the connection. */
  corruptNext(connection: SimulatedConnection, aboveBytes: number): void {
    this.alterNext(connection, (data) => (data.length > aboveBytes ? this.#flipBit(data, connection.path) : undefined));
  }

  /** Replaces the next message on the connection for which `alter` returns one. */
  alterNext(connection: SimulatedConnection, alter: Alter): void {
    this.#live(connection).alter = alter;
  }

  /** Delay of one message, ms. */
  delayMs(): number {
    const { minDelayMs, maxDelayMs } = this.options;
    return minDelayMs + this.#random.nextFloat() * (maxDelayMs - minDelayMs);
  }

  /** Time until a side learns that a connection is broken, ms. */
  breakMs(): number {
    return this.#random.nextFloat() * this.options.maxBreakMs;
  }

  isBlocked(a: VirtualProcess, b: VirtualProcess): boolean {
    for (const partition of this.#partitions) if (separates(partition, a, b)) return true;
    return false;
  }

  /** `retry` is called once, when a partition has ended. */
  onHeal(retry: () => void): void {
    assertInvariant(this.#waitingForHeal.length < 10_000, 'fewer than 10,000 connection attempts wait for a partition');
    this.#waitingForHeal.push(retry);
  }

  /** @returns the port @throws PORT_IN_USE */
  listen(process: VirtualProcess, init: ListenInit): { readonly port: number; readonly listening: Listening } {
    const port = init.port === 0 ? this.#nextPort++ : init.port;
    const address = `${init.host}:${port}`;
    if (this.#ports.has(address))
      throw new TrainerError('PORT_IN_USE', `cannot listen on ${address}: the port is in use`);
    const listening: Listening = { process, init, accepted: new Set() };
    this.#ports.set(address, listening);
    return { port, listening };
  }

  listeningAt(address: string): Listening | undefined {
    return this.#ports.get(address);
  }

  stopListening(listening: Listening): void {
    for (const [address, known] of this.#ports) if (known === listening) this.#ports.delete(address);
  }

  /** Frees the ports of a process for another one: its host name now names another host. */
  vacate(process: VirtualProcess): void {
    for (const listening of this.#ports.values()) if (listening.process === process) this.stopListening(listening);
  }

  /** Creates a connection of two paired ends. @param at its limits are those of the side that dials */
  connect(
    process: VirtualProcess,
    listening: Listening,
    at: {
      readonly url: string;
      readonly path: string;
      readonly greeting: string;
      readonly limits: ListenInit['limits'];
    },
  ): SimulatedConnection {
    const { path, greeting } = at;
    const tamper = (data: Uint8Array): Uint8Array => this.#tamper(live, data);
    const isBlocked = (): boolean => live.isBlackHole || this.isBlocked(process, listening.process);
    const { kernelBytes, kernelMessages } = this.options;
    const identity = { path, greeting };
    const shared = {
      time: this.time,
      ...identity,
      random: this.#random,
      kernelBytes,
      kernelMessages,
      isBlocked,
      tamper,
    };
    const delayMs = (): number => this.delayMs();
    const nearLimits = { ...DEFAULT_CONNECTION_LIMITS, ...at.limits };
    const farLimits = { ...DEFAULT_CONNECTION_LIMITS, ...listening.init.limits };
    const near = new ConnectionEnd(
      { ...shared, delayMs, process, peer: at.url, limits: nearLimits },
      listening.process.name,
    );
    const far = new ConnectionEnd(
      { ...shared, delayMs, process: listening.process, peer: process.name, limits: farLimits },
      process.name,
    );
    const live: LiveConnection = { path, near, far, isBlackHole: false, alter: undefined };
    near.pairWith(far);
    far.pairWith(near);
    this.#sweep();
    this.#connections.add(live);
    listening.accepted.add(far);
    void far.closed.then(() => listening.accepted.delete(far));
    return live;
  }

  /** Removes connections that are closed on both sides. */
  #sweep(): void {
    for (const connection of this.#connections)
      if (connection.near.isOver && connection.far.isOver) this.#connections.delete(connection);
  }

  #crashed(process: VirtualProcess): void {
    this.vacate(process);
    for (const { near, far } of this.#connections)
      for (const end of [near, far])
        if (end.process === process) {
          const isReset = this.#random.nextBelow(2) === 0;
          end.crashed(isReset);
        }
  }

  #tamper(connection: LiveConnection, data: Uint8Array): Uint8Array {
    const altered = connection.alter?.(data);
    if (altered === undefined) return data;
    connection.alter = undefined;
    return altered;
  }

  #flipBit(data: Uint8Array, path: string): Uint8Array {
    const bit = this.#random.nextBelow(8 * data.length);
    data[bit >> 3] = data[bit >> 3]! ^ (1 << (bit & 7));
    this.#numBitsFlipped += 1;
    this.time.note(`bit ${bit} of ${data.length} B on ${path} flipped`);
    return data;
  }

  #live(connection: SimulatedConnection): LiveConnection {
    for (const live of this.#connections) if (live === connection) return live;
    throw new TrainerError('INTERNAL', `the connection ${connection.path} is not one of this network, or is over`);
  }
}

function separates({ a, b }: Partition, x: VirtualProcess, y: VirtualProcess): boolean {
  if (x === y) return false;
  return b === null ? x === a || y === a : (x === a && y === b) || (x === b && y === a);
}
