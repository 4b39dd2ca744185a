/**
 * The coordinator's side of the control sockets: from connections to events in a mailbox, in the order they came.
 * A connection is nobody until it has said a valid `join`; what breaks a rule is closed with its code and logged, and harms no one else.
 */
import { toTrainerError, TrainerError } from '../shared/errors.ts';
import type { Clock } from '../shared/clock.ts';
import type { Logger } from '../shared/logger.ts';
import { Mailbox } from '../shared/mailbox.ts';
import { decodeMessage, encodeMessage } from '../shared/protocol/codec.ts';
import {
  PROTOCOL_VERSION,
  workerMessageSchema,
  type CoordinatorMessage,
  type WorkerMessage,
  type WorkerPhase,
  type WorkerStall,
} from '../shared/protocol/messages.ts';
import { answerRequest, type Routes } from './control-requests.ts';
import { RefusalLog } from '../shared/refusal-log.ts';
import type { Connection, Listener, Transport } from '../shared/transport/transport.ts';
import { StallLog } from './worker-stall.ts';

/** Events of all workers that may wait for the coordinator's loop. */
const MAILBOX_CAPACITY = 65_536;
/** A connection that has not joined by then is closed, ms. */
const JOIN_DEADLINE_MS = 10_000;
/** Time for the workers to leave after `finish`, ms. */
const FINISH_DEADLINE_MS = 10_000;

type JoinMessage = Extract<WorkerMessage, { kind: 'join' }>;
/** Messages that the loop handles; joins and heartbeats end here. */
export type WorkerEventMessage = Exclude<WorkerMessage, { kind: 'join' | 'heartbeat' }>;

export type ControlEvent =
  | { readonly kind: 'joined'; readonly worker: WorkerHandle }
  | { readonly kind: 'message'; readonly worker: WorkerHandle; readonly message: WorkerEventMessage }
  | { readonly kind: 'lost'; readonly worker: WorkerHandle; readonly error: TrainerError };

/** A worker that has joined, as long as its socket lives. */
export class WorkerHandle {
  readonly workerId: string;
  readonly host: string;
  readonly pid: number;
  readonly dataUrl: string;
  readonly #connection: Connection;
  /** Clock time of the last message, ms. */
  lastHeardMs: number;
  phase: WorkerPhase = 'starting';
  /** The most memory its process has reported, B. */
  mostResidentBytes = 0;
  /** Updates it has applied, by its last heartbeat. */
  step = 0;
  /** It waits for its source of data, by its last heartbeat. */
  stall: WorkerStall | undefined;

  /** Tells that it waits for its source, and that it goes on. */
  readonly stallLog: StallLog;

  constructor(join: JoinMessage, connection: Connection, nowMs: number, log: Logger) {
    this.workerId = join.workerId;
    this.host = join.host;
    this.pid = join.pid;
    this.dataUrl = join.dataUrl;
    this.#connection = connection;
    this.lastHeardMs = nowMs;
    this.stallLog = new StallLog(log, join.workerId);
  }

  /** Queues a message. A failure to send closes the socket, which the loop sees as `lost`. */
  send(message: CoordinatorMessage): void {
    this.#connection.send([encodeMessage(message)]).catch((error: unknown) => {
      const { code, message: reason } = toTrainerError(error);
      this.#connection.close(code, reason);
    });
  }

  close(reason: string): void {
    this.#connection.close('NORMAL', reason);
  }

  /** Turns a worker away that came when the run already had its workers. */
  refuse(): void {
    this.#connection.close('JOIN_REFUSED', 'this run has its workers already; a late worker is not admitted');
  }

  /** Resolves when the socket is gone. */
  get closed(): Promise<unknown> {
    return this.#connection.closed;
  }

  toString(): string {
    return `worker ${this.workerId} (pid ${this.pid} on ${this.host})`;
  }
}

export interface ControlServerInit {
  readonly transport: Transport;
  readonly clock: Clock;
  readonly log: Logger;
  readonly host: string;
  readonly port: number;
  readonly token: string;
  /** Plain HTTP requests that are answered on the same port. */
  readonly routes: Routes;
}

export class ControlServer {
  readonly events: Mailbox<ControlEvent>;
  readonly #init: ControlServerInit;
  readonly #workers = new Map<string, WorkerHandle>();
  #listener: Listener | undefined;

  constructor(init: ControlServerInit) {
    this.#init = init;
    this.events = new Mailbox(MAILBOX_CAPACITY, init.clock);
  }

  /** @returns the URL that workers dial @throws PORT_IN_USE */
  async listen(): Promise<string> {
    const { transport, host, port, token, log, clock, routes } = this.#init;
    const refusals = new RefusalLog(log, clock);
    this.#listener = await transport.listen({
      host,
      port,
      token,

      onConnection: (connection) => this.#accept(connection),
      onRefused: (refusal) => refusals.refused(refusal),
      onRequest: (request, response) => void answerRequest(routes, request, response),
    });
    return this.#listener.url;
  }

  /** Workers whose sockets live, in the order of their ids. */
  workers(): WorkerHandle[] {
    return [...this.#workers.values()].sort((a, b) => (a.workerId < b.workerId ? -1 : 1));
  }

  /** Tells every worker to leave, waits for them a while, and closes what is left. */
  async dismiss(reason: string): Promise<void> {
    const workers = this.workers();
    for (const worker of workers) worker.send({ kind: 'finish', reason });
    const timer = new AbortController();
    const late = this.#init.clock.sleep(FINISH_DEADLINE_MS, timer.signal).catch(() => undefined);
    await Promise.race([Promise.all(workers.map(({ closed }) => closed)), late]);
    timer.abort();
    for (const worker of this.workers()) worker.close(reason);
  }

  async close(): Promise<void> {
    await this.#listener?.close();
  }

  #accept(connection: Connection): void {
    const { clock, log } = this.#init;
    let worker: WorkerHandle | undefined;
    const refuse = (error: TrainerError): void => {
      log.warn(
        { peer: connection.peer, workerId: worker?.workerId, code: error.code, reason: error.message },
        'connection closed',
      );
      connection.close(error.code, error.message);
    };
    const deadline = new AbortController();
    clock.sleep(JOIN_DEADLINE_MS, deadline.signal).then(
      () => refuse(new TrainerError('JOIN_REFUSED', `no join within ${JOIN_DEADLINE_MS} ms`)),
      () => undefined,
    );
    connection.onMessage((data) => {
      try {
        const message = decodeMessage(workerMessageSchema, data);
        if (worker === undefined) {
          worker = this.#join(message, connection);
          deadline.abort();
        } else this.#receive(worker, message);
      } catch (error) {
        refuse(toTrainerError(error));
      }
    });
    void connection.closed.then(({ code, reason }) => {
      deadline.abort();
      if (worker === undefined) return;
      this.#workers.delete(worker.workerId);
      const error = new TrainerError(
        'WORKER_LOST',
        `${worker.toString()} closed its socket (${code}${reason === '' ? '' : ` ${reason}`})`,
      );
      this.events.put({ kind: 'lost', worker, error });
    });
  }

  /** @throws MESSAGE_INVALID, VERSION_MISMATCH, JOIN_REFUSED */
  #join(message: WorkerMessage, connection: Connection): WorkerHandle {
    if (message.kind !== 'join')
      throw new TrainerError('MESSAGE_INVALID', `expected join as the first message, got ${message.kind}`);
    if (message.protocolVersion !== PROTOCOL_VERSION)
      throw new TrainerError(
        'VERSION_MISMATCH',
        `expected protocol ${PROTOCOL_VERSION}, ${message.workerId} speaks ${message.protocolVersion}; install the same exmix everywhere`,
      );
    if (this.#workers.has(message.workerId))
      throw new TrainerError(
        'JOIN_REFUSED',
        `a worker named ${message.workerId} is here already; give each worker its own --id`,
      );
    const { clock, log } = this.#init;
    const worker = new WorkerHandle(message, connection, clock.monotonicMs(), log);
    this.#workers.set(worker.workerId, worker);
    this.#put(worker, { kind: 'joined', worker });
    return worker;
  }

  #receive(worker: WorkerHandle, message: WorkerMessage): void {
    worker.lastHeardMs = this.#init.clock.monotonicMs();
    if (message.kind === 'join')
      throw new TrainerError('MESSAGE_INVALID', `${worker.workerId} joined twice on one socket`);
    if (message.kind === 'heartbeat') {
      worker.phase = message.phase;
      worker.mostResidentBytes = Math.max(worker.mostResidentBytes, message.residentBytes ?? 0);
      worker.step = message.step;
      worker.stall = message.stall;
      worker.stallLog.heard(message.stall);
      worker.send({ kind: 'heartbeat' });
    } else this.#put(worker, { kind: 'message', worker, message });
  }

  #put(worker: WorkerHandle, event: ControlEvent): void {
    if (!this.events.put(event))
      throw new TrainerError(
        'SEND_OVERFLOW',
        `${worker.workerId} sends faster than the coordinator reads (${MAILBOX_CAPACITY} events wait)`,
      );
  }
}
