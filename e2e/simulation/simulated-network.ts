/**
 * A network in virtual time, and what can go wrong in it. Each process has a SimulatedTransport of its own; delays, hand-overs and the way a
 * connection breaks follow from the seed.
 *
 * Assumption: TCP. A message on an open connection is never lost, doubled or overtaken; it comes late, or the connection breaks.
 */
import { assertInvariant, TrainerError } from '../../shared/errors.ts';
import { hashName, RandomStream } from '../../shared/random.ts';
import { DEFAULT_CONNECTION_LIMITS, type ListenInit } from '../../shared/transport/transport.ts';
import { ConnectionEnd } from './simulated-connection.ts';
import type { VirtualTime } from './virtual-clock.ts';
import type { VirtualProcess } from './virtual-process.ts';

export interface NetworkOptions {
  /** Of one message, ms. */
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
  /** Longest time until a side learns that a connection has broken, ms. */
  readonly maxBreakMs: number;
  /** What the kernels hold of one direction. */
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

/** What port 0 takes: a port that was given by number is never taken by chance. */
const FIRST_EPHEMERAL_PORT = 40_000;

/** @returns what comes instead of a message; undefined for one that is not meant */
export type Alter = (data: Uint8Array) => Uint8Array | undefined;

/** A connection, for those who want to break it. */
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
  /** null: everybody else. */
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

  /** The kernel under a process: once for each, by its transport. */
  attach(process: VirtualProcess): void {
    process.onCrash(() => this.#crashed(process));
    process.onContinue(() => {
      for (const { near, far } of this.#connections)
        for (const end of [near, far]) if (end.process === process) end.continued();
    });
  }

  /** Live connections in the order they were made, those between two processes or of one where they are given. */
  connections(a?: VirtualProcess, b?: VirtualProcess): SimulatedConnection[] {
    return [...this.#connections].filter(({ near, far }) => {
      const ends = [near.process, far.process];
      return (a === undefined || ends.includes(a)) && (b === undefined || ends.includes(b));
    });
  }

  /** How often a bit was flipped. */
  get numBitsFlipped(): number {
    return this.#numBitsFlipped;
  }

  /** The connection breaks; each side learns of it after a while. */
  cut(connection: SimulatedConnection): void {
    this.#live(connection).isBlackHole = true;
    for (const end of [connection.near, connection.far]) end.breakAfter(this.breakMs());
  }

  /** Nothing comes through any more; `aware` learns of it soon, the other side only after `silentMs`. */
  halfOpen(connection: SimulatedConnection, aware: 'near' | 'far', silentMs: number): void {
    this.#live(connection).isBlackHole = true;
    connection[aware].breakAfter(this.breakMs());
    connection[aware === 'near' ? 'far' : 'near'].breakAfter(silentMs);
  }

  /**
   * For `forMs` nothing comes through between two processes, or between one and all others.
   * @param connections that exist: messages are held until then, or they break
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

  /** Of what is sent over the connection, the next message that is meant becomes another one. */
  alterNext(connection: SimulatedConnection, alter: Alter): void {
    this.#live(connection).alter = alter;
  }

  /** Delay of one message, ms. */
  delayMs(): number {
    const { minDelayMs, maxDelayMs } = this.options;
    return minDelayMs + this.#random.nextFloat() * (maxDelayMs - minDelayMs);
  }

  /** Until a side learns that a connection is broken, ms. */
  breakMs(): number {
    return this.#random.nextFloat() * this.options.maxBreakMs;
  }

  isBlocked(a: VirtualProcess, b: VirtualProcess): boolean {
    for (const partition of this.#partitions) if (separates(partition, a, b)) return true;
    return false;
  }

  /** Called once, when a partition has ended. */
  onHeal(retry: () => void): void {
    assertInvariant(this.#waitingForHeal.length < 10_000, 'fewer than 10,000 connection attempts wait for a partition');
    this.#waitingForHeal.push(retry);
  }

  /** @returns the port @throws PORT_IN_USE */
  listen(process: VirtualProcess, init: ListenInit): { readonly port: number; readonly listening: Listening } {
    const port = init.port === 0 ? this.#nextPort++ : init.port;
    const address = `${init.host}:${port}`;
    if (this.#ports.has(address)) throw new TrainerError('PORT_IN_USE', `cannot listen on ${address}: taken`);
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

  /** Where it listens somebody else may listen now: the name of its host has become that of another one. */
  vacate(process: VirtualProcess): void {
    for (const listening of this.#ports.values()) if (listening.process === process) this.stopListening(listening);
  }

  /** Two joined ends. @param limits of the side that dials */
  connect(
    process: VirtualProcess,
    listening: Listening,
    at: { readonly url: string; readonly path: string; readonly limits: ListenInit['limits'] },
  ): SimulatedConnection {
    const { path } = at;
    const tamper = (data: Uint8Array): Uint8Array => this.#tamper(live, data);
    const isBlocked = (): boolean => live.isBlackHole || this.isBlocked(process, listening.process);
    const { kernelBytes, kernelMessages } = this.options;
    const shared = { time: this.time, path, random: this.#random, kernelBytes, kernelMessages, isBlocked, tamper };
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
    near.join(far);
    far.join(near);
    this.#sweep();
    this.#connections.add(live);
    listening.accepted.add(far);
    void far.closed.then(() => listening.accepted.delete(far));
    return live;
  }

  /** Forgets what is over on both sides. */
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
