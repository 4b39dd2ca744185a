/**
 * The life of a worker's sockets: joins the coordinator, passes its commands on, forms the mesh of data links, reduces gradients,
 * and beats. Two clocks: heartbeats say that this thread lives, the progress counter in them that the compute thread moves.
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
import type { Connection, Refusal, Transport } from '../../shared/transport/transport.ts';
import { VERSION } from '../../shared/version.ts';
import type { Collective } from '../collective/all-reduce.ts';
import type { StepResult } from '../collective/step-tally.ts';
import { ProgressCell } from '../compute/progress-cell.ts';
import { DataPlane } from './data-plane.ts';
import type { LinkData, LinkEvent, LinkRequest } from './link-messages.ts';

/** To reach the coordinator and be welcomed, ms. */
const JOIN_DEADLINE_MS = 30_000;

export interface LinkSessionInit {
  readonly data: LinkData;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly emit: (event: LinkEvent) => void;
  /** The session is over; nothing more is emitted. */
  readonly onEnd: () => void;
}

export class LinkSession {
  readonly #init: LinkSessionInit;
  readonly #progress: ProgressCell;
  readonly #dataPlane: DataPlane;
  readonly #end = new AbortController();
  #connection: Connection | undefined;
  #config: RunConfig | undefined;
  #epoch = 0;
  #generation = 0;
  #collective: Collective | undefined;
  #lastResult: StepResult | undefined;
  #lastHeardMs = 0;
  #hasFailed = false;

  constructor(init: LinkSessionInit) {
    this.#init = init;
    this.#progress = new ProgressCell(init.data.progress);
    const onRefused = (refusal: Refusal): void => init.emit({ kind: 'refused', refusal });
    this.#dataPlane = new DataPlane({ data: init.data, transport: init.transport, clock: init.clock, onRefused });
  }

  /** Listens, dials, joins. A failure is emitted as `lost`. */
  async start(): Promise<void> {
    const { data, transport, emit } = this.#init;
    try {
      const dataUrl = await this.#dataPlane.listen();
      const { coordinatorUrl, token, workerId } = data;
      const connection = await transport.dial(coordinatorUrl, {
        token,
        timeoutMs: JOIN_DEADLINE_MS,
        signal: this.#end.signal,
      });
      this.#connection = connection;
      this.#lastHeardMs = this.#init.clock.monotonicMs();
      connection.onMessage((bytes) => this.#receive(bytes));
      void connection.closed.then(({ code, reason }) => {
        this.#lose(
          new TrainerError(
            'CONNECTION_LOST',
            `the coordinator at ${coordinatorUrl} closed the connection (${code} ${reason})`,
          ),
        );
      });
      const join = {
        kind: 'join',
        protocolVersion: PROTOCOL_VERSION,
        version: VERSION,
        workerId,
        host: hostname(),
        pid: process.pid,
        dataUrl,
      } as const;
      this.#send(join);
    } catch (error) {
      emit({ kind: 'lost', error: toErrorRecord(error) });
    }
  }

  /** A request of the compute thread. */
  take(request: LinkRequest): void {
    const ids = { epoch: this.#epoch, generation: this.#generation };
    switch (request.kind) {
      case 'ready':
      case 'saved':
      case 'aborted':
        this.#send({ ...request, ...ids });
        break;
      case 'failed':
        this.#send(request);
        break;
      case 'begin-step':
        this.#beginStep(request.step);
        break;
      case 'bucket-ready':
        this.#collective?.bucketReady(request.bucket);
        break;
      case 'report': {
        assertInvariant(this.#lastResult !== undefined, 'a report follows a reduced step');
        const { digest, sumOfSquares } = this.#lastResult;
        this.#send({ ...request, ...ids, gradDigest: digest, gradSumOfSquares: sumOfSquares });
        break;
      }
      case 'leave':
        this.#leave();
        break;
    }
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
    if ('epoch' in message && message.kind !== 'welcome' && message.epoch !== this.#epoch)
      throw new TrainerError(
        'MESSAGE_INVALID',
        `expected epoch ${this.#epoch}, the coordinator sent ${message.kind} of ${message.epoch}`,
      );
    switch (message.kind) {
      case 'welcome':
        this.#epoch = message.epoch;
        this.#config = checkConfig(message.config, 'the config from the coordinator');
        void this.#beat(this.#config);
        this.#init.emit(message);
        break;
      case 'form':
        void this.#form(message);
        break;
      case 'abort':
        this.#collective?.close();
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

  async #form(message: Extract<CoordinatorMessage, { kind: 'form' }>): Promise<void> {
    const { rank, members, epoch, generation, firstStep } = message;
    try {
      assertInvariant(this.#config !== undefined, 'form follows welcome');
      this.#generation = generation;
      const formed = await this.#dataPlane.form({
        config: this.#config,
        rank,
        members,
        epoch,
        generation,
        firstStep,
        signal: this.#end.signal,
      });
      this.#collective = formed.collective;
      void formed.collective.failed.then((error) => this.#collectiveFailed(error));
      const { memory, layout } = formed.arena;
      this.#init.emit({ kind: 'formed', rank, worldSize: members.length, memory, layout });
      this.#send({ kind: 'formed', epoch, generation });
    } catch (error) {
      this.#send({ kind: 'failed', error: toErrorRecord(error) });
    }
  }

  #beginStep(step: number): void {
    if (this.#collective === undefined) return;
    this.#collective.startStep(step, this.#end.signal).then(
      (result) => {
        this.#lastResult = result;
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
    try {
      while (!this.#end.signal.aborted) {
        this.#send({ kind: 'heartbeat', ...this.#progress.read() });
        await clock.sleep(cluster.heartbeatIntervalMs, this.#end.signal);
        const silentMs = clock.monotonicMs() - this.#lastHeardMs;
        if (silentMs > cluster.heartbeatTimeoutMs)
          this.#lose(
            new TrainerError(
              'CONNECTION_LOST',
              `the coordinator has been silent for ${Math.round(silentMs)} ms (limit ${cluster.heartbeatTimeoutMs})`,
            ),
          );
      }
    } catch {
      // The session is over.
    }
  }

  #send(message: WorkerMessage): void {
    this.#connection?.send([encodeMessage(message)]).catch((error: unknown) => this.#lose(toTrainerError(error)));
  }

  #lose(error: TrainerError): void {
    if (this.#end.signal.aborted) return;
    this.#init.emit({ kind: 'lost', error: toErrorRecord(error) });
    this.#shutDown(error.code, error.message);
  }

  #leave(): void {
    this.#shutDown('NORMAL', 'the worker leaves');
    const closed = this.#connection?.closed ?? Promise.resolve();
    void closed.then(() => this.#init.onEnd());
  }

  #shutDown(code: ErrorCode | 'NORMAL', reason: string): void {
    this.#end.abort();
    this.#collective?.close();
    this.#dataPlane.close();
    this.#connection?.close(code, reason);
  }
}
