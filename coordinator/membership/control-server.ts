/**
 * The coordinator's side of the control sockets: turns connections and messages into events in a mailbox, in their order.
 * A connection becomes a worker with its first valid `join`. A connection that breaks a rule is closed with its code and logged; it harms no
 * other worker.
 */
import { waitAtMost } from '../../shared/abort.ts';
import { ownAddresses } from '../../shared/addresses.ts';
import { toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { Clock } from '../../shared/clock.ts';
import type { Logger } from '../../shared/logger.ts';
import { Mailbox } from '../../shared/mailbox.ts';
import { decodeMessage, encodeMessage } from '../../shared/protocol/codec.ts';
import {
  boundWorkerMessages,
  MAX_SMALL_BYTES,
  type MessageBounds,
  type RunSize,
} from '../../shared/protocol/message-bounds.ts';
import {
  PROTOCOL_VERSION,
  workerMessageSchema,
  type CoordinatorMessage,
  type MessageOf,
  type WorkerMessage,
} from '../../shared/protocol/messages.ts';
import { RefusalLog } from '../../shared/refusal-log.ts';
import { parseDataAddress } from '../../shared/transport/data-address.ts';
import type { Connection, Listener, Transport } from '../../shared/transport/transport.ts';
import { VERSION } from '../../shared/version.ts';
import { whyUnreachable } from './check-reachable.ts';
import { answerRequest, type Routes } from './control-requests.ts';
import { PauseDetector, TICK_MS } from './tick.ts';
import { WorkerHandle } from './worker-handle.ts';

/** Bound of the events of all workers that wait for the coordinator's loop; ends of workers come on top. */
const MAILBOX_CAPACITY = 65_536;
/** Bound of the sockets that have not shown the token: `maxWorkers`, or this if it is more. */
const LEAST_UNAUTHENTICATED = 64;
/** Bound of the sockets with the token that have not joined, and of the joined workers beyond those that may train. */
const LEAST_SPARE = 64;
/** A connection that has not joined by then is closed, ms. */
const JOIN_DEADLINE_MS = 10_000;
/** A worker has this long, or `silenceMs` if that is less, to answer for its id when another process joins with it, ms. */
const ID_PING_MS = 20_000;
/** Time for the workers to leave after `finish`, ms. */
const FINISH_DEADLINE_MS = 10_000;
/** The answer to every heartbeat. */
const HEARTBEAT = encodeMessage({ kind: 'heartbeat' } satisfies CoordinatorMessage);

/** Messages for the loop; joins and heartbeats are handled here. */
export type WorkerEventMessage = Exclude<WorkerMessage, { kind: 'join' | 'heartbeat' }>;

export type ControlEvent =
  | { readonly kind: 'joined'; readonly worker: WorkerHandle }
  | { readonly kind: 'message'; readonly worker: WorkerHandle; readonly message: WorkerEventMessage }
  | { readonly kind: 'lost'; readonly worker: WorkerHandle; readonly error: TrainerError };

type RunEnding = Pick<MessageOf<'finish'>, 'outcome' | 'reason'>;
type JoinMessage = MessageOf<'join'>;

export interface ControlServerInit {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Logger;
  readonly host: string;
  readonly token: string;
  /** Workers that may train. After a restart of the coordinator all of them dial at the same time. */
  readonly maxWorkers: number;
  /** Of the coordinator. */
  readonly epoch: number;
  /** Bounds its messages. */
  readonly size: RunSize;
  /** A worker that is silent for this long is lost, ms. */
  readonly silenceMs: number;
  /** Plain HTTP requests on the same port. */
  readonly routes: Routes;
  /** Called when a worker is dropped because it does not answer. */
  readonly onHung?: ((workerId: string) => void) | undefined;
}

export class ControlServer {
  readonly events: Mailbox<ControlEvent>;
  readonly #init: ControlServerInit;
  /** The last generation that a `form` was sent for. */
  newestGeneration = 0;
  readonly #workers = new Map<string, WorkerHandle>();
  /** Connections that have not joined, the oldest first, with what refuses them. */
  readonly #unjoined = new Map<Connection, (error: TrainerError) => void>();
  readonly #bounds: MessageBounds;
  readonly #refusals: RefusalLog;
  readonly #closing = new AbortController();
  /** How the run has ended; from then on each worker that joins is told. */
  #ending: RunEnding | undefined;
  #listener: Listener | undefined;

  constructor(init: ControlServerInit) {
    this.#init = init;
    this.#bounds = boundWorkerMessages(init.size);
    this.#refusals = new RefusalLog(init.log, init.clock);
    this.events = new Mailbox(MAILBOX_CAPACITY, init.clock);
  }

  /** @param port 0: a free one @returns the URL that workers dial @throws PORT_IN_USE */
  async listen(port: number): Promise<string> {
    const { transport, host, token, routes, maxWorkers } = this.#init;
    this.#listener = await transport.listen({
      host,
      port,
      token,
      maxUnauthenticated: Math.max(LEAST_UNAUTHENTICATED, maxWorkers),
      limits: { maxFirstMessageBytes: MAX_SMALL_BYTES },
      onConnection: (connection) => this.#accept(connection),
      onRefused: (refusal) => this.#refusals.refused(refusal),
      onRequest: (request, response) => void answerRequest(routes, request, response),
    });
    void this.#dropSilentWorkers();
    return this.#listener.url;
  }

  /** Workers with open sockets, in the order of their ids. */
  workers(): WorkerHandle[] {
    return [...this.#workers.values()].sort((a, b) => (a.workerId < b.workerId ? -1 : 1));
  }

  /** Sends `finish` to every worker, waits until they have left, and closes the sockets that are left. */
  async dismiss(reason: string, outcome: RunEnding['outcome']): Promise<void> {
    this.#ending = { outcome, reason };
    const workers = this.workers();
    for (const worker of workers) worker.dismiss(outcome, reason);
    await waitAtMost(Promise.all(workers.map(({ closed }) => closed)), FINISH_DEADLINE_MS, this.#init.clock);
    for (const worker of this.workers()) worker.close(reason);
  }

  /** Closes all connections. @param mayComeBack workers are to dial again: another coordinator of the run takes over */
  async close(mayComeBack = false): Promise<void> {
    this.#closing.abort();
    if (mayComeBack)
      for (const worker of this.workers()) worker.drop('CONNECTION_LOST', 'the coordinator starts again');
    await this.#listener?.close();
    this.#refusals.close();
  }

  /** Drops silent workers, unless this process itself stood still. */
  async #dropSilentWorkers(): Promise<void> {
    const { clock, silenceMs } = this.#init;
    const pauses = new PauseDetector(clock.monotonicMs());
    for (;;) {
      try {
        await clock.sleep(TICK_MS, this.#closing.signal);
      } catch {
        return; // closed
      }
      const nowMs = clock.monotonicMs();
      if (pauses.hasPaused(nowMs)) for (const worker of this.#workers.values()) worker.lastHeardMs = nowMs;
      for (const worker of this.workers()) {
        const silentMs = Math.round(nowMs - worker.lastHeardMs);
        if (silentMs > silenceMs)
          worker.dropAsHung('CONNECTION_LOST', `silent for ${silentMs} ms (limit ${silenceMs})`);
      }
    }
  }

  #accept(connection: Connection): void {
    const { clock } = this.#init;
    let worker: WorkerHandle | undefined;
    let isRefused = false;
    let isJoining = false;
    const refuse = (error: TrainerError): void => {
      isRefused = true;
      this.#unjoined.delete(connection);
      this.#logClosed(connection, worker?.workerId, error);
      if (worker === undefined) connection.close(error.code, error.message);
      else worker.drop(error.code, error.message); // it need not answer the close
    };
    const [oldest] = this.#unjoined.size >= this.#numSpare ? this.#unjoined.values() : [];
    oldest?.(new TrainerError('JOIN_REFUSED', `more than ${this.#numSpare} sockets that have not joined`));
    this.#unjoined.set(connection, refuse);
    const deadline = new AbortController();
    clock.sleep(JOIN_DEADLINE_MS, deadline.signal).then(
      () => refuse(new TrainerError('JOIN_REFUSED', `no join within ${JOIN_DEADLINE_MS} ms`)),
      () => undefined,
    );
    connection.onMessage((data) => {
      if (isRefused) return; // a message that was under way when the connection was closed
      try {
        const message = decodeMessage(workerMessageSchema, data, this.#bounds);
        if (worker !== undefined) {
          this.#receive(worker, message);
          return;
        }
        if (isJoining)
          throw new TrainerError('MESSAGE_INVALID', `expected nothing before welcome, got ${message.kind}`);
        isJoining = true;
        const join = this.#checkJoin(message, connection);
        deadline.abort();
        const older = this.#workers.get(join.workerId);
        if (older === undefined || older.isSameProcess(join)) {
          worker = this.#admit(join, connection);
          return;
        }
        this.#awaitId(join)
          .then(() => {
            if (connection.isOpen && !isRefused) worker = this.#admit(join, connection);
          })
          .catch((error: unknown) => refuse(toTrainerError(error)));
      } catch (error) {
        refuse(toTrainerError(error));
      }
    });
    void connection.closed.then(({ code, reason, error }) => {
      deadline.abort();
      this.#unjoined.delete(connection);
      if (!isRefused && error?.code === 'MESSAGE_TOO_LARGE') this.#logClosed(connection, worker?.workerId, error);
      if (worker === undefined) return;
      const why = `${worker.toString()} closed its socket (${code}${reason === '' ? '' : ` ${reason}`})`;
      this.#lose(worker, new TrainerError('WORKER_LOST', why));
    });
  }

  /** @throws MESSAGE_INVALID, VERSION_MISMATCH, JOIN_REFUSED */
  #checkJoin(message: WorkerMessage, connection: Connection): JoinMessage {
    if (message.kind !== 'join')
      throw new TrainerError('MESSAGE_INVALID', `expected join as the first message, got ${message.kind}`);
    const { protocolVersion, version } = message;
    if (protocolVersion !== PROTOCOL_VERSION || version !== VERSION)
      throw new TrainerError(
        'VERSION_MISMATCH',
        `expected exmix ${VERSION} with protocol ${PROTOCOL_VERSION}, ${message.workerId} is ${version} with protocol ${protocolVersion}; ` +
          'install the same exmix everywhere',
      );
    parseDataAddress(message.dataUrl, this.#init.transport.scheme); // every other worker dials it
    const others = this.workers().filter(({ workerId }) => workerId !== message.workerId);
    const unreachable = whyUnreachable({ ...message, peer: connection.peer }, others, ownAddresses());
    if (unreachable !== undefined) throw new TrainerError('JOIN_REFUSED', unreachable);
    return message;
  }

  /**
   * Waits until no other process has the id. A worker that does not answer a ping loses it.
   * @throws JOIN_REFUSED where the other process is alive
   */
  async #awaitId(join: JoinMessage): Promise<void> {
    const { workerId, host } = join;
    const { log, silenceMs } = this.#init;
    const timeoutMs = Math.min(ID_PING_MS, silenceMs);
    for (;;) {
      const older = this.#workers.get(workerId);
      if (older === undefined || older.isSameProcess(join)) return;
      const reason = `${older.toString()} has this id: it has ${timeoutMs} ms to answer a ping`;
      log.info({ workerId, host, reason }, 'worker waits for its id');
      const isAlive = await older.ping(timeoutMs, this.#closing.signal);
      if (isAlive && !older.isGone)
        throw new TrainerError(
          'JOIN_REFUSED',
          `the id ${workerId} is in use on ${older.host}: give each worker its own --id`,
        );
      older.drop('JOIN_REFUSED', `another worker with the id ${workerId} has joined; give each worker its own --id`);
    }
  }

  /** @throws SEND_OVERFLOW, JOIN_REFUSED */
  #admit(message: JoinMessage, connection: Connection): WorkerHandle {
    if (this.events.size >= MAILBOX_CAPACITY) throw overflow(message.workerId);
    const before = this.#workers.get(message.workerId);
    const most = this.#init.maxWorkers + this.#numSpare;
    if (before === undefined && this.#workers.size >= most)
      throw new TrainerError('JOIN_REFUSED', `expected at most ${most} workers, ${message.workerId} is one more`);
    this.#unjoined.delete(connection);
    // A new socket of the same process: the newest counts.
    before?.drop('CONNECTION_LOST', 'the worker has dialled again');
    const { clock, log, onHung } = this.#init;
    const worker: WorkerHandle = new WorkerHandle(message, {
      connection,
      nowMs: clock.monotonicMs(),
      log,
      onDrop: (error) => this.#lose(worker, error),
      onHung: () => onHung?.(worker.workerId),
    });
    this.#workers.set(worker.workerId, worker);
    this.events.putAlways({ kind: 'joined', worker });
    if (this.#ending !== undefined) worker.dismiss(this.#ending.outcome, this.#ending.reason);
    return worker;
  }

  #receive(worker: WorkerHandle, message: WorkerMessage): void {
    if (this.#workers.get(worker.workerId) !== worker) return; // dropped
    worker.lastHeardMs = this.#init.clock.monotonicMs();
    if (message.kind === 'join')
      throw new TrainerError('MESSAGE_INVALID', `${worker.workerId} joined twice on one socket`);
    this.#checkIdentity(message);
    if (message.kind === 'heartbeat') {
      worker.receiveHeartbeat(message);
      worker.sendParts([HEARTBEAT]);
      return;
    }
    if (message.kind === 'drain') {
      const { workerId } = worker;
      if (!worker.isDraining) this.#init.log.info({ workerId, reason: message.reason }, 'worker drains');
      worker.drainReason = message.reason; // at once: no step is dealt to it any more
    }
    if (!this.events.put({ kind: 'message', worker, message })) throw overflow(worker.workerId);
  }

  /**
   * Epoch and generation of what a worker says: only reports come from an earlier epoch, and nothing from a later one.
   * Messages of an earlier generation may be late, so the parts that receive them decide. @throws MESSAGE_INVALID
   */
  #checkIdentity(message: WorkerMessage): void {
    if (!('epoch' in message)) return;
    const { epoch } = this.#init;
    const { newestGeneration } = this;
    const generation = 'generation' in message ? message.generation : 0;
    if (message.kind === 'report' && message.epoch < epoch) return;
    if (message.epoch === epoch && generation <= newestGeneration) return;
    throw new TrainerError(
      'MESSAGE_INVALID',
      `${message.kind} of epoch ${message.epoch}, generation ${generation}: ` +
        `expected epoch ${epoch} and a generation up to ${newestGeneration}`,
    );
  }

  get #numSpare(): number {
    return Math.max(LEAST_SPARE, this.#init.maxWorkers);
  }

  #logClosed({ peer }: Connection, workerId: string | undefined, { code, message }: TrainerError): void {
    this.#refusals.bound({ code, remote: peer }, () =>
      this.#init.log.warn({ peer, workerId, code, reason: message }, 'connection closed'),
    );
  }

  /** Has an effect once for each worker. */
  #lose(worker: WorkerHandle, error: TrainerError): void {
    if (this.#workers.get(worker.workerId) !== worker) return;
    this.#workers.delete(worker.workerId);
    worker.isGone = true;
    // Never dropped: the run would wait for this worker. Each admitted worker ends once, and a full mailbox admits none.
    this.events.putAlways({ kind: 'lost', worker, error });
  }
}

function overflow(workerId: string): TrainerError {
  return new TrainerError(
    'SEND_OVERFLOW',
    `${workerId} sends faster than the coordinator reads (${MAILBOX_CAPACITY} events wait)`,
  );
}
