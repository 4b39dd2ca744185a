/**
 * The connection to the coordinator: dials, joins, sends heartbeats, and dials again after a break for `cluster.coordinatorGraceMs`.
 * The generation continues meanwhile.
 *
 * The line is over for good when the coordinator closes it with a reason, when a message breaks the protocol, or when no coordinator has
 * welcomed this worker within the grace.
 */
import { nameLocation } from '../../shared/storage/location.ts';
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Clock } from '../../shared/clock.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { toTrainerError, TrainerError, type ErrorCode } from '../../shared/errors.ts';
import { decodeMessage, encodeMessage } from '../../shared/protocol/codec.ts';
import { boundCoordinatorMessages } from '../../shared/protocol/message-bounds.ts';
import {
  coordinatorMessageSchema,
  PROTOCOL_VERSION,
  type CoordinatorMessage,
  type MessageOf,
  type WorkerMessage,
  type WorkerStall,
} from '../../shared/protocol/messages.ts';
import type { CloseInfo, Connection, Transport } from '../../shared/transport/transport.ts';
import { VERSION } from '../../shared/version.ts';
import { dialCoordinator, DialPauses } from './dial-coordinator.ts';
import type { NetworkData } from './network-messages.ts';

/** Time to reach the coordinator at start, and to be welcomed on each connection, ms. */
const JOIN_DEADLINE_MS = 30_000;
/** A heartbeat this much too late means that this process paused: the coordinator's silence counts from then on, ms. */
const OWN_PAUSE_MS = 1_000;

export interface CoordinatorLineInit {
  readonly data: Pick<NetworkData, 'coordinatorUrl' | 'token' | 'workerId'>;
  /** @param localAddress own address of the socket to the coordinator @returns the address of this worker's data port */
  readonly openDataPort: (localAddress: string | undefined) => Promise<string>;
  readonly transport: Transport;
  readonly clock: Clock;
  /** Ends the line. */
  readonly signal: AbortSignal;
  /** @throws for a message out of order, which ends the line */
  readonly onMessage: (message: CoordinatorMessage) => void;
  /** Content of a heartbeat. */
  readonly beat: () => MessageOf<'heartbeat', WorkerMessage>;
  /** The coordinator does not answer and is dialled again. */
  readonly onWaiting: (reason: string) => void;
}

export class CoordinatorLine {
  readonly #init: CoordinatorLineInit;
  readonly #pauses: DialPauses;
  /** Identifies this process on all its connections. */
  readonly #processId = randomUUID();
  /** A coordinator must welcome this worker until then; infinite while one has. */
  #deadlineMs = 0;
  #connection: Connection | undefined;
  /** Fires when this connection is welcomed. */
  #welcomed = new AbortController();
  /** Fires when this connection has ended. */
  #ended = new AbortController();
  #cluster: RunConfig['cluster'] | undefined;
  /** Of the run; 0 before the first welcome. */
  #bounds = boundCoordinatorMessages(0);
  #lastMessageMs = 0;
  /** Why this side closed the connection. */
  #reason: TrainerError | undefined;

  constructor(init: CoordinatorLineInit) {
    this.#init = init;
    this.#pauses = new DialPauses(init.data.workerId);
  }

  /** Runs from the first dial to the end. @returns why the line is over; never rejects */
  async run(): Promise<TrainerError> {
    const { clock, signal, onWaiting } = this.#init;
    this.#deadlineMs = clock.monotonicMs() + JOIN_DEADLINE_MS;
    try {
      for (;;) {
        const error = await this.#serve(await this.#dial());
        if (error.code !== 'CONNECTION_LOST' || this.#cluster === undefined || signal.aborted) return error;
        const nowMs = clock.monotonicMs();
        // The deadline stays: a coordinator that accepts and does not welcome must not extend it.
        if (this.#deadlineMs === Infinity) this.#deadlineMs = nowMs + this.#cluster.coordinatorGraceMs;
        const leftMs = Math.ceil(this.#deadlineMs - nowMs);
        if (leftMs <= 0) return error;
        onWaiting(`${error.message}; dialling again for ${leftMs} ms`);
        await clock.sleep(Math.min(this.#pauses.next(), leftMs), signal);
      }
    } catch (error) {
      return toTrainerError(error);
    }
  }

  /** The coordinator has welcomed this worker: heartbeats start on this connection. */
  welcome({ cluster, numLanes }: Pick<RunConfig, 'cluster'> & { readonly numLanes: number }): void {
    this.#cluster = cluster;
    this.#bounds = boundCoordinatorMessages(numLanes);
    this.#deadlineMs = Infinity;
    this.#pauses.reset();
    this.#welcomed.abort();
    void this.#beat(this.#connection!, cluster);
  }

  /** Dropped without a connection: the session sends reports again after `welcome`. */
  send(message: WorkerMessage): void {
    this.#connection?.send([encodeMessage(message)]).catch((thrown: unknown) => {
      const error = toTrainerError(thrown);
      // A connection that has ended reports its own reason by `closed`.
      if (error.code !== 'CONNECTION_LOST') this.close(error.code, error.message);
    });
  }

  close(code: ErrorCode | 'NORMAL', reason: string): void {
    this.#reason ??= new TrainerError(code === 'NORMAL' ? 'ABORTED' : code, reason);
    this.#connection?.close(code, reason);
  }

  /** Resolves when the current connection is closed. */
  async closed(): Promise<void> {
    await this.#connection?.closed;
  }

  #dial(): Promise<Connection> {
    const { data, transport, clock, signal, onWaiting } = this.#init;
    const { coordinatorUrl: url, token } = data;
    const [pauses, deadlineMs] = [this.#pauses, this.#deadlineMs];
    return dialCoordinator({ url, token, pauses, deadlineMs, transport, clock, signal, onWaiting });
  }

  /** Joins and passes messages on until the connection has ended. @returns why it ended */
  async #serve(connection: Connection): Promise<TrainerError> {
    const { clock, onMessage } = this.#init;
    this.#reason = undefined;
    this.#welcomed = new AbortController();
    this.#ended = new AbortController();
    this.#connection = connection;
    this.#lastMessageMs = clock.monotonicMs();
    connection.onMessage((bytes) => {
      this.#lastMessageMs = clock.monotonicMs();
      try {
        onMessage(decodeMessage(coordinatorMessageSchema, bytes, this.#bounds));
      } catch (error) {
        const { code, message } = toTrainerError(error);
        this.close(code, message);
      }
    });
    await this.#join(connection);
    const info = await connection.closed;
    this.#connection = undefined;
    this.#welcomed.abort();
    this.#ended.abort();
    return this.#describeClose(info);
  }

  async #join(connection: Connection): Promise<void> {
    const { data, openDataPort } = this.#init;
    try {
      const dataUrl = await openDataPort(connection.localAddress);
      const { workerId } = data;
      const self = { workerId, host: hostname(), pid: process.pid, processId: this.#processId, dataUrl };
      this.send({ kind: 'join', protocolVersion: PROTOCOL_VERSION, version: VERSION, ...self });
      void this.#awaitWelcome();
    } catch (thrown) {
      const { code, message } = toTrainerError(thrown);
      this.close(code, message);
    }
  }

  async #awaitWelcome(): Promise<void> {
    const { data, clock } = this.#init;
    const leftMs = Math.max(1, Math.ceil(this.#deadlineMs - clock.monotonicMs()));
    const waitMs = this.#cluster === undefined ? JOIN_DEADLINE_MS : Math.min(JOIN_DEADLINE_MS, leftMs);
    const isWelcomed = await clock.sleep(waitMs, this.#welcomed.signal).then(
      () => false,
      () => true,
    );
    if (isWelcomed) return;
    const late = `the coordinator at ${nameLocation(data.coordinatorUrl)} did not welcome this worker within ${waitMs} ms`;
    this.close(this.#cluster === undefined ? 'CONNECT_FAILED' : 'CONNECTION_LOST', late);
  }

  async #beat(
    connection: Connection,
    { heartbeatIntervalMs, heartbeatTimeoutMs }: RunConfig['cluster'],
  ): Promise<void> {
    const { clock, beat } = this.#init;
    const { signal } = this.#ended;
    while (connection.isOpen) {
      this.send(beat());
      const sentMs = clock.monotonicMs();
      try {
        await clock.sleep(heartbeatIntervalMs, signal);
      } catch {
        return; // the connection has ended
      }
      if (this.#connection !== connection) return; // it has ended
      const nowMs = clock.monotonicMs();
      if (nowMs - sentMs > heartbeatIntervalMs + OWN_PAUSE_MS) this.#lastMessageMs = nowMs;
      const silentMs = Math.round(nowMs - this.#lastMessageMs);
      if (silentMs > heartbeatTimeoutMs)
        this.close(
          'CONNECTION_LOST',
          `the coordinator has been silent for ${silentMs} ms (limit ${heartbeatTimeoutMs})`,
        );
    }
  }

  #describeClose({ code, reason, error }: CloseInfo): TrainerError {
    if (this.#reason !== undefined) return this.#reason;
    const why = error?.message ?? `closed by the coordinator (${code} ${reason})`;
    const message = `the connection to the coordinator at ${nameLocation(this.#init.data.coordinatorUrl)} has ended: ${why}`;
    return new TrainerError(error?.code ?? 'ABORTED', message, { cause: error });
  }
}

/** The data source that does not answer, for heartbeats: the feed's last notice, and for how long by now. Pure. */
export class SourceStall {
  #last: { readonly stall: WorkerStall; readonly recordedMs: number } | undefined;

  /** @param stall null: the source answers again */
  record(nowMs: number, stall: WorkerStall | null): void {
    this.#last = stall === null ? undefined : { stall, recordedMs: nowMs };
  }

  /** Fields of a heartbeat. */
  read(nowMs: number): { readonly stall?: WorkerStall } {
    if (this.#last === undefined) return {};
    const { stall, recordedMs } = this.#last;
    return { stall: { ...stall, forMs: stall.forMs + nowMs - recordedMs } };
  }
}
