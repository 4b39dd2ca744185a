/**
 * The life of a worker's sockets: joins the coordinator, passes its commands on, forms the mesh of data links, reduces gradients,
 * and beats. Two clocks: heartbeats say that this thread lives, the progress counter in them that the compute thread moves.
 * A message that is out of order (coordinator-order.ts) or not in the protocol at all ends the session.
 */
import { hostname } from 'node:os';
import type { Clock } from '../../shared/clock.ts';
import { checkConfig } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { assertInvariant, toErrorRecord, toTrainerError, TrainerError, type ErrorCode } from '../../shared/errors.ts';
import { decodeMessage, encodeMessage } from '../../shared/protocol/codec.ts';
import {
  coordinatorMessageSchema,
  PROTOCOL_VERSION,
  type CoordinatorMessage,
  type WorkerMessage,
} from '../../shared/protocol/messages.ts';
import type { CloseInfo, Connection, Refusal, Transport } from '../../shared/transport/transport.ts';
import { VERSION } from '../../shared/version.ts';
import type { Collective } from '../collective/all-reduce.ts';
import type { StepResult } from '../collective/step-tally.ts';
import { ProgressCell } from '../compute/progress-cell.ts';
import { checkOrder } from './coordinator-order.ts';
import { DataPlane } from './data-plane.ts';
import { dialCoordinator } from './dial-coordinator.ts';
import type { LinkData, LinkEvent, LinkRequest } from './link-messages.ts';
import { SourceStall } from './source-stall.ts';

/** To reach the coordinator, and again to be welcomed, ms. */
const JOIN_DEADLINE_MS = 30_000;

export interface LinkSessionInit {
  readonly data: LinkData;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly emit: (event: LinkEvent) => void;
  /** The session is over and its sockets are gone; nothing more is emitted. */
  readonly onEnd: () => void;
}

type FormMessage = Extract<CoordinatorMessage, { kind: 'form' }>;

/** The membership this worker is part of, from `form` on. */
interface Generation {
  readonly number: number;
  /** Fires with `abort`: what is being connected or reduced is dropped. */
  readonly calledOff: AbortController;
  collective: Collective | undefined;
  lastResult: { readonly step: number; readonly result: StepResult } | undefined;
}

export class LinkSession {
  readonly #init: LinkSessionInit;
  readonly #progress: ProgressCell;
  readonly #stall = new SourceStall();
  readonly #dataPlane: DataPlane;
  readonly #welcomed = new AbortController();
  readonly #end = new AbortController();
  #connection: Connection | undefined;
  #config: RunConfig | undefined;
  #epoch = 0;
  #generation: Generation | undefined;
  #lastHeardMs = 0;
  #hasFailed = false;
  #closed: Promise<unknown> | undefined;

  constructor(init: LinkSessionInit) {
    this.#init = init;
    this.#progress = new ProgressCell(init.data.progress);
    const { data, transport, clock, emit } = init;
    const onRefused = (refusal: Refusal): void => emit({ kind: 'refused', refusal });
    const onNoOutbox = (error: TrainerError): void => emit({ kind: 'no-outbox', error: toErrorRecord(error) });
    this.#dataPlane = new DataPlane({ data, transport, clock, onRefused, onNoOutbox });
  }

  /** Listens, dials, joins. A failure is emitted as `lost`. */
  async start(): Promise<void> {
    const { data, transport, clock, emit } = this.#init;
    try {
      const dataUrl = await this.#dataPlane.listen();
      if (this.#end.signal.aborted) {
        await this.#dataPlane.close(); // told to leave meanwhile
        return;
      }
      const connection = await dialCoordinator({
        url: data.coordinatorUrl,
        token: data.token,
        timeoutMs: JOIN_DEADLINE_MS,
        transport,
        clock,
        signal: this.#end.signal,
        onWaiting: (reason) => emit({ kind: 'waiting', reason }),
      });
      this.#join(connection, dataUrl);
    } catch (error) {
      this.#lose(toTrainerError(error));
    }
  }

  /** A request of the compute thread. @throws INTERNAL for one that nothing it was told allows */
  take(request: LinkRequest): void {
    switch (request.kind) {
      case 'ready':
      case 'saved':
      case 'aborted':
        this.#send({ ...request, ...this.#ids() });
        break;
      case 'failed':
        this.#send(request);
        break;
      case 'begin-step':
        this.#beginStep(request.step);
        break;
      case 'bucket-ready':
        this.#formed().collective.bucketReady(request.bucket);
        break;
      case 'report': {
        const { lastResult } = this.#formed();
        assertInvariant(lastResult?.step === request.step, `step ${request.step} is reported after it was reduced`);
        const { digest, sumOfSquares } = lastResult.result;
        this.#send({ ...request, ...this.#ids(), gradDigest: digest, gradSumOfSquares: sumOfSquares });
        break;
      }
      case 'source':
        this.#stall.tell(this.#init.clock.monotonicMs(), request.stall);
        break;
      case 'leave':
        void this.#shutDown('NORMAL', request.reason).then(this.#init.onEnd);
        break;
    }
  }

  #join(connection: Connection, dataUrl: string): void {
    const { data, clock } = this.#init;
    this.#connection = connection;
    this.#lastHeardMs = clock.monotonicMs();
    connection.onMessage((bytes) => this.#receive(bytes));
    void connection.closed.then((info) => this.#lose(this.#describeClose(info)));
    this.#send({
      kind: 'join',
      protocolVersion: PROTOCOL_VERSION,
      version: VERSION,
      workerId: data.workerId,
      host: hostname(),
      pid: process.pid,
      dataUrl,
    });
    const waiting = AbortSignal.any([this.#welcomed.signal, this.#end.signal]);
    const late = `the coordinator at ${data.coordinatorUrl} did not welcome this worker within ${JOIN_DEADLINE_MS} ms`;
    clock.sleep(JOIN_DEADLINE_MS, waiting).then(
      () => this.#lose(new TrainerError('CONNECT_FAILED', late, { retryable: true })),
      () => undefined, // welcomed, or over
    );
  }

  #receive(bytes: Uint8Array): void {
    this.#lastHeardMs = this.#init.clock.monotonicMs();
    try {
      this.#handle(decodeMessage(coordinatorMessageSchema, bytes));
    } catch (error) {
      const { code, message } = toTrainerError(error);
      this.#connection?.close(code, message);
    }
  }

  #handle(message: CoordinatorMessage): void {
    checkOrder(message, {
      isWelcomed: this.#config !== undefined,
      epoch: this.#epoch,
      generation: this.#generation?.number,
      isFormed: this.#generation?.collective !== undefined,
    });
    switch (message.kind) {
      case 'welcome':
        this.#config = checkConfig(message.config, 'the config from the coordinator');
        this.#epoch = message.epoch;
        this.#welcomed.abort();
        void this.#beat(this.#config);
        this.#init.emit(message);
        break;
      case 'form':
        void this.#form(message, this.#config!);
        break;
      case 'abort':
        this.#generation?.calledOff.abort();
        this.#generation?.collective?.close();
        this.#init.emit({ kind: 'abort', reason: message.reason });
        break;
      case 'deal':
      case 'save':
      case 'finish':
        this.#init.emit(message);
        break;
      case 'heartbeat':
        break;
    }
  }

  async #form(message: FormMessage, config: RunConfig): Promise<void> {
    const { rank, members, epoch, generation: number, firstStep } = message;
    const generation: Generation = {
      number,
      calledOff: new AbortController(),
      collective: undefined,
      lastResult: undefined,
    };
    this.#generation = generation;
    const signal = AbortSignal.any([this.#end.signal, generation.calledOff.signal]);
    try {
      const mesh = { config, rank, members, epoch, generation: number, firstStep, signal };
      const { arena, collective } = await this.#dataPlane.form(mesh);
      generation.collective = collective;
      void collective.failed.then((error) => this.#collectiveFailed(error));
      const { memory, layout } = arena;
      this.#init.emit({ kind: 'formed', rank, worldSize: members.length, memory, layout });
      this.#send({ kind: 'formed', epoch, generation: number });
    } catch (thrown) {
      const error = toTrainerError(thrown);
      if (error.code !== 'ABORTED') this.#send({ kind: 'failed', error: toErrorRecord(error) });
    }
  }

  #beginStep(step: number): void {
    const generation = this.#formed();
    generation.collective.startStep(step, this.#end.signal).then(
      (result) => {
        generation.lastResult = { step, result };
        const { sumOfSquares, firstNonFiniteBytes, exposedMs } = result;
        this.#init.emit({ kind: 'reduced', step, sumOfSquares, firstNonFiniteBytes, exposedMs });
      },
      (error: unknown) => this.#collectiveFailed(toTrainerError(error)),
    );
  }

  #collectiveFailed(error: TrainerError): void {
    if (this.#end.signal.aborted || this.#hasFailed) return;
    this.#hasFailed = true;
    this.#init.emit({ kind: 'collective-failed', error: toErrorRecord(error) });
    // An own abort is the coordinator's wish; anything else is news to it.
    if (error.code !== 'ABORTED') this.#send({ kind: 'failed', error: toErrorRecord(error) });
  }

  async #beat({ cluster }: RunConfig): Promise<void> {
    const { clock } = this.#init;
    const { heartbeatIntervalMs, heartbeatTimeoutMs } = cluster;
    try {
      while (!this.#end.signal.aborted) {
        const stall = this.#stall.read(clock.monotonicMs());
        this.#send({ kind: 'heartbeat', ...this.#progress.read(), residentBytes: process.memoryUsage.rss(), ...stall });
        await clock.sleep(heartbeatIntervalMs, this.#end.signal);
        const silentMs = clock.monotonicMs() - this.#lastHeardMs;
        const silent = `the coordinator has been silent for ${Math.round(silentMs)} ms (limit ${heartbeatTimeoutMs})`;
        if (silentMs > heartbeatTimeoutMs) this.#lose(new TrainerError('CONNECTION_LOST', silent));
      }
    } catch (error) {
      this.#lose(toTrainerError(error)); // nothing new where the session is over
    }
  }

  #ids(): { epoch: number; generation: number } {
    return { epoch: this.#epoch, generation: this.#generation?.number ?? 0 };
  }

  /** The generation with its collective. */
  #formed(): Generation & { collective: Collective } {
    const generation = this.#generation;
    assertInvariant(generation?.collective !== undefined, 'the compute thread asks for a step after `formed`');
    return generation as Generation & { collective: Collective };
  }

  #send(message: WorkerMessage): void {
    this.#connection?.send([encodeMessage(message)]).catch((thrown: unknown) => {
      const error = toTrainerError(thrown);
      // What ended the connection says more than that it has ended.
      if (error.code !== 'CONNECTION_LOST') this.#lose(error);
    });
  }

  #describeClose({ code, reason, error }: CloseInfo): TrainerError {
    const why = error?.message ?? `closed by the coordinator (${code} ${reason})`;
    const message = `the connection to the coordinator at ${this.#init.data.coordinatorUrl} has ended: ${why}`;
    return new TrainerError(error?.code ?? 'CONNECTION_LOST', message, { cause: error });
  }

  #lose(error: TrainerError): void {
    if (this.#end.signal.aborted) return;
    this.#init.emit({ kind: 'lost', error: toErrorRecord(error) });
    void this.#shutDown(error.code, error.message);
  }

  /** Resolves when every socket is gone. */
  #shutDown(code: ErrorCode | 'NORMAL', reason: string): Promise<unknown> {
    this.#end.abort();
    const collective = this.#generation?.collective;
    collective?.close();
    this.#connection?.close(code, reason);
    this.#closed ??= Promise.allSettled([this.#dataPlane.close(), collective?.closed, this.#connection?.closed]);
    return this.#closed;
  }
}
