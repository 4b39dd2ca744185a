/** A worker that has joined: its identity, the figures of its heartbeats, and its connection. */
import { toTrainerError, TrainerError, type ErrorCode } from '../../shared/errors.ts';
import type { Logger } from '../../shared/logger.ts';
import { encodeMessage, encodeEach } from '../../shared/protocol/codec.ts';
import type {
  CoordinatorMessage,
  MessageOf,
  WorkerMessage,
  WorkerPhase,
  WorkerStall,
} from '../../shared/protocol/messages.ts';
import type { Connection } from '../../shared/transport/transport.ts';

/** A wait for a source is logged again after this time, ms. */
const REPEAT_MS = 10_000;

type JoinMessage = MessageOf<'join'>;

interface WorkerHandleInit {
  readonly connection: Connection;
  readonly nowMs: number;
  readonly log: Logger;
  /** Called when it is removed from the run. */
  readonly onDrop: (error: TrainerError) => void;
  /** Called when it is dropped because it does not answer. */
  readonly onHung: () => void;
}

/** Lives as long as its socket. */
export class WorkerHandle {
  readonly workerId: string;
  readonly host: string;
  readonly pid: number;
  readonly dataUrl: string;
  /** The other end of its connection. */
  readonly peer: string;
  readonly #processId: string;
  readonly #connection: Connection;
  readonly #onDrop: (error: TrainerError) => void;
  readonly #onHung: () => void;
  /** Its socket has closed, or it was dropped; its `lost` event may still wait. */
  isGone = false;
  /** Why it wants to leave; undefined until it has sent `drain`. */
  drainReason: string | undefined;
  /** It was sent `finish`. */
  isDismissed = false;
  /** The generation it works in, from `form` to its answer to `abort`; undefined: none. */
  #work: { readonly generation: number; isAborting: boolean } | undefined;
  /** Clock time of the last message, ms. */
  lastHeardMs: number;
  /** Clock time of the last heartbeat, ms. */
  beatMs: number;
  /** Clock time of the first heartbeat with the current progress counter, ms. */
  progressMs: number;
  /** Part of the time since then in which it waited for its source of data, ms. */
  stalledMs = 0;
  #progress = -1;
  phase: WorkerPhase = 'starting';
  /** The most memory its process has reported, B. */
  mostResidentBytes = 0;
  /** Updates it has applied, as of its last heartbeat. */
  step = 0;
  /** Its wait for a source of data, as of its last heartbeat. */
  stall: WorkerStall | undefined;

  readonly stallLog: StallLog;

  constructor(join: JoinMessage, { connection, nowMs, log, onDrop, onHung }: WorkerHandleInit) {
    this.workerId = join.workerId;
    this.host = join.host;
    this.pid = join.pid;
    this.dataUrl = join.dataUrl;
    this.peer = connection.peer;
    this.#processId = join.processId;
    this.#connection = connection;
    this.#onDrop = onDrop;
    this.#onHung = onHung;
    this.lastHeardMs = nowMs;
    this.beatMs = nowMs;
    this.progressMs = nowMs;
    this.stallLog = new StallLog(log, join.workerId);
  }

  /** Queues a message. A failure to send closes the socket; the loop gets `lost`. */
  send(message: CoordinatorMessage): void {
    this.sendParts([encodeMessage(message)]);
  }

  /** Queues an encoded message, given in parts. */
  sendParts(parts: readonly Uint8Array[]): void {
    this.#connection.send(parts).catch((error: unknown) => {
      const { code, message: reason } = toTrainerError(error);
      this.#connection.close(code, reason);
    });
  }

  /** It was sent `form` of this generation, which also ends the one before. */
  startWork(generation: number): void {
    this.#work = { generation, isAborting: false };
  }

  /** The generation it works in; undefined: none, or it has confirmed the end. */
  get generation(): number | undefined {
    return this.#work?.generation;
  }

  /** Sends `abort` of the generation it works in, once. */
  abortWork(epoch: number, reason: string): void {
    if (this.#work === undefined || this.#work.isAborting) return;
    this.#work.isAborting = true;
    this.send({ kind: 'abort', epoch, generation: this.#work.generation, reason });
  }

  /** It has answered `abort`. */
  endWork(): void {
    this.#work = undefined;
  }

  /** Records the figures of a heartbeat. */
  receiveHeartbeat({ progress, phase, residentBytes = 0, step, stall }: MessageOf<'heartbeat', WorkerMessage>): void {
    const sinceMs = this.lastHeardMs - this.beatMs;
    this.beatMs = this.lastHeardMs;
    if (progress !== this.#progress) {
      this.progressMs = this.beatMs;
      this.stalledMs = 0;
    } else if (stall !== undefined) this.stalledMs += Math.min(stall.forMs, sinceMs);
    this.#progress = progress;
    this.phase = phase;
    this.mostResidentBytes = Math.max(this.mostResidentBytes, residentBytes);
    this.step = step;
    this.stall = stall;
    this.stallLog.update(stall);
  }

  /** It was told to leave, and stays while the run needs the state it holds. */
  get isDraining(): boolean {
    return this.drainReason !== undefined;
  }

  /** Tells it that the run needs it no more; once. */
  dismiss(outcome: MessageOf<'finish'>['outcome'], reason: string): void {
    if (this.isDismissed) return;
    this.isDismissed = true;
    this.send({ kind: 'finish', outcome, reason });
  }

  /** Closes the connection in good order. */
  close(reason: string): void {
    this.#connection.close('NORMAL', reason);
  }

  /**
   * Removes the worker from the run at once, whether or not its socket answers; the loop gets `lost`.
   * @param code CONNECTION_LOST: the worker may come back; with any other code its process ends
   */
  drop(code: ErrorCode, reason: string): void {
    this.#onDrop(new TrainerError('WORKER_LOST', `${this.toString()} was dropped: ${reason}`));
    this.#connection.close(code, reason);
  }

  /** Drops a worker that does not answer: its process may have to be killed. */
  dropAsHung(code: ErrorCode, reason: string): void {
    this.drop(code, reason);
    this.#onHung();
  }

  /** Whether its network thread answers in time. A ping that cannot be sent proves nothing: it counts as alive. */
  async ping(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#connection.ping(timeoutMs, signal);
      return true;
    } catch (error) {
      return !['CONNECT_FAILED', 'CONNECTION_LOST'].includes(toTrainerError(error).code);
    }
  }

  isSameProcess({ processId }: JoinMessage): boolean {
    return processId === this.#processId;
  }

  /** Resolves when the socket is gone. */
  get closed(): Promise<unknown> {
    return this.#connection.closed;
  }

  toString(): string {
    return `worker ${this.workerId} (pid ${this.pid} on ${this.host})`;
  }
}

/** Logs that a worker waits for its source (when the reason changes and every REPEAT_MS), and that the wait is over. */
export class StallLog {
  readonly #log: Logger;
  readonly #workerId: string;
  #logged: WorkerStall | undefined;

  constructor(log: Logger, workerId: string) {
    this.#log = log;
    this.#workerId = workerId;
  }

  /** @param stall of the last heartbeat */
  update(stall: WorkerStall | undefined): void {
    const workerId = this.#workerId;
    const logged = this.#logged;
    if (stall === undefined) {
      if (logged !== undefined) this.#log.info({ workerId, forMs: logged.forMs }, 'worker has its source again');
      this.#logged = undefined;
      return;
    }
    if (logged?.reason === stall.reason && stall.forMs - logged.forMs < REPEAT_MS) return;
    this.#logged = stall;
    this.#log.warn({ workerId, reason: stall.reason, forMs: stall.forMs }, 'worker waits for its source');
  }
}

/** Sends one message to many workers; its shared part is encoded once. @param own the fields that differ, one set for each worker */
export function sendEach<K extends CoordinatorMessage['kind'], Own extends keyof MessageOf<K, CoordinatorMessage>>(
  workers: readonly Pick<WorkerHandle, 'sendParts'>[],
  shared: Omit<MessageOf<K, CoordinatorMessage>, Own>,
  own: readonly Pick<MessageOf<K, CoordinatorMessage>, Own>[],
): void {
  for (const [i, parts] of encodeEach(shared, own).entries()) workers[i]!.sendParts(parts);
}

/** Workers in the answer to `GET /status`. @param members of the generation, in rank order */
export function describeWorkers(workers: readonly WorkerHandle[], members: readonly WorkerHandle[]): object[] {
  const ranks = new Map(members.map((worker, rank) => [worker, rank]));
  return workers.map((worker) => {
    const { workerId, host, pid, phase, step, stall } = worker;
    return { workerId, host, pid, phase, step, rank: ranks.get(worker) ?? null, stall };
  });
}
