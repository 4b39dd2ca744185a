/**
 * All sockets of a worker: keeps the connection to the coordinator, passes its commands on, and runs the generations that it forms.
 * Two clocks: a heartbeat shows that this thread runs, its progress counter that the compute thread works.
 *
 * A coordinator that died, or a broken connection, may have lost reports. Reports after the committed step are kept and sent again after the
 * next welcome. The number of steps that can be dealt ahead bounds them.
 */
import { throwIfAborted } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import { checkEvaluationConfig } from '../../shared/config/evaluation-config.ts';
import { checkConfig } from '../../shared/config/load-config.ts';
import type { RunConfig } from '../../shared/config/schema.ts';
import { assertInvariant, toErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import type { CoordinatorMessage, MessageOf, WorkerMessage } from '../../shared/protocol/messages.ts';
import type { Transport } from '../../shared/transport/transport.ts';
import { ProgressCell } from './progress-cell.ts';
import { CoordinatorLine, SourceStall } from './coordinator-line.ts';
import { checkOrder } from './coordinator-order.ts';
import { checkAdvertised, type DataPlane } from './data-plane.ts';
import { GenerationSession } from './generation-session.ts';
import type { NetworkData, NetworkEvent, NetworkRequest, ProbeMessage } from './network-messages.ts';

export interface NetworkSessionInit {
  readonly data: NetworkData;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly dataPlane: DataPlane;
  readonly emit: (event: NetworkEvent) => void;
  /** The session is over and its sockets are closed; it emits nothing more. */
  readonly onEnd: () => void;
}

type Report = MessageOf<'report'>;

export class NetworkSession {
  readonly #init: NetworkSessionInit;
  readonly #progress: ProgressCell;
  readonly #stall = new SourceStall();
  readonly #end = new AbortController();
  #line: CoordinatorLine | undefined;
  /** Address of the data port, once the coordinator was reached for the first time. */
  #dataUrl: Promise<string> | undefined;
  #config: RunConfig | undefined;
  #runId: string | undefined;
  #epoch = 0;
  /** True after the welcome on the current connection. */
  #isWelcomed = false;
  /** The newest generation; it may be over. */
  #generation: GenerationSession | undefined;
  /** Ends the link trial under way, if there is one. */
  #trial = new AbortController();
  /** Reports of steps whose commit is not known. */
  #reports: Report[] = [];
  /** Why the process is to leave; undefined until it was told to. */
  #drainReason: string | undefined;
  #closed: Promise<unknown> | undefined;

  constructor(init: NetworkSessionInit) {
    this.#init = init;
    this.#progress = new ProgressCell(init.data.progress);
  }

  /** Runs the connection until it is over for good; then emits `lost`. */
  async start(): Promise<void> {
    const { data, transport, clock, emit } = this.#init;
    try {
      if (data.advertiseHost !== undefined) checkAdvertised(data.advertiseHost, transport.scheme);
      this.#line = new CoordinatorLine({
        data,
        openDataPort: (localAddress) => (this.#dataUrl ??= this.#openDataPort(localAddress)),
        transport,
        clock,
        signal: this.#end.signal,
        onMessage: (message) => this.#handleMessage(message),
        onWaiting: (reason) => {
          this.#isWelcomed = false;
          emit({ kind: 'waiting', reason });
        },
        beat: () => ({
          kind: 'heartbeat',
          ...this.#progress.read(),
          residentBytes: process.memoryUsage.rss(),
          ...this.#stall.read(clock.monotonicMs()),
        }),
      });
      this.#lose(await this.#line.run());
    } catch (error) {
      this.#lose(toTrainerError(error));
    }
  }

  /** @throws as DataPlane.listen; ABORTED where `leave` came meanwhile */
  async #openDataPort(localAddress: string | undefined): Promise<string> {
    const { dataPlane } = this.#init;
    const dataUrl = await dataPlane.listen(localAddress);
    if (this.#end.signal.aborted) await dataPlane.close();
    throwIfAborted(this.#end.signal, 'opening the data port');
    return dataUrl;
  }

  /** A request of the compute thread. @throws INTERNAL for a request that no command allows */
  handleRequest(request: NetworkRequest): void {
    switch (request.kind) {
      case 'ready':
      case 'evaluation-ready':
      case 'evaluated':
      case 'aborted':
      case 'saved':
      case 'not-finite':
      case 'failed':
        // Answers to an earlier epoch are dropped: the next coordinator asks again.
        if (request.epoch === this.#epoch) this.#send(request);
        break;
      case 'report':
        this.#report(request);
        break;
      case 'begin-step':
        this.#withGeneration((generation) => generation.beginStep(request.step));
        break;
      case 'bucket-ready':
        this.#withGeneration((generation) => generation.bucketReady(request.bucket));
        break;
      case 'offer-state':
        this.#withGeneration((generation) => generation.offerState(request));
        break;
      case 'copy-state':
        this.#withGeneration((generation) => void generation.copyState(request));
        break;
      case 'state-in-place':
        this.#withGeneration((generation) => {
          if (generation.number === request.generation) generation.stateInPlace(request);
        });
        break;
      case 'drain':
        this.#drainReason = request.reason;
        this.#send(request);
        break;
      case 'source':
        this.#stall.record(this.#init.clock.monotonicMs(), request.stall);
        break;
      case 'leave':
        void this.#shutDown(new TrainerError('ABORTED', request.reason), 'NORMAL').then(this.#init.onEnd);
        break;
    }
  }

  /** Requests for a generation that is over are dropped. */
  #withGeneration(act: (generation: GenerationSession) => void): void {
    const generation = this.#generation;
    assertInvariant(generation !== undefined, 'requests for a generation come after `form`');
    if (!generation.isOver) act(generation);
  }

  #report(request: Extract<NetworkRequest, { kind: 'report' }>): void {
    assertInvariant(this.#generation !== undefined, 'a report follows a generation');
    const { digest, sumOfSquares } = this.#generation.resultOf(request.step);
    const report = { ...request, gradDigest: digest, gradSumOfSquares: sumOfSquares };
    // A step is dealt only after the commit of the step `plansAhead` before it.
    const oldest = request.step - this.#config!.cluster.plansAhead;
    this.#reports = [...this.#reports.filter(({ step }) => step > oldest && step < request.step), report];
    this.#send(report);
  }

  /** Drops messages before the welcome: that coordinator has asked nothing. */
  #send(message: WorkerMessage): void {
    if (this.#isWelcomed) this.#line?.send(message);
  }

  /** @throws MESSAGE_INVALID, JOIN_REFUSED, CONFIG_INVALID */
  #handleMessage(message: CoordinatorMessage): void {
    checkOrder(message, {
      isWelcomed: this.#isWelcomed,
      epoch: this.#epoch,
      runId: this.#runId,
      generation: this.#generation?.epoch === this.#epoch ? this.#generation.number : 0,
      isFormed: this.#generation?.isFormed ?? false,
      isAborted: this.#generation?.isOver ?? false,
    });
    const { emit } = this.#init;
    switch (message.kind) {
      case 'welcome':
        this.#welcome(message);
        break;
      case 'welcome-evaluation':
        this.#welcomeEvaluation(message);
        break;
      case 'form':
        this.#generation?.end(`generation ${message.generation} is being formed`);
        emit(message);
        this.#form(message);
        break;
      case 'abort':
        if (this.#generation?.number !== message.generation || this.#generation.isOver) break; // nothing to abort
        this.#generation.end(message.reason);
        emit(message);
        break;
      case 'deal':
        this.#generation!.startTraining();
        emit(message);
        break;
      case 'evaluate':
        emit(message);
        break;
      case 'probe-links':
        void this.#probeLinks(message);
        break;
      case 'save':
      case 'finish':
        emit(message);
        break;
      case 'heartbeat':
        break;
    }
  }

  #welcome(message: MessageOf<'welcome'>): void {
    this.#config = checkConfig(message.config, 'the config from the coordinator');
    this.#generation?.end(`the coordinator of epoch ${message.epoch} has taken over`);
    this.#trial.abort(new TrainerError('ABORTED', 'another welcome has come'));
    this.#runId = message.runId;
    this.#epoch = message.epoch;
    this.#isWelcomed = true;
    const { cluster, training } = this.#config;
    this.#line!.welcome({ cluster, numLanes: training.numLanes });
    this.#init.emit(message);
    this.#reports = this.#reports.filter(({ step }) => step > message.committedStep);
    for (const report of this.#reports) this.#send(report);
    if (this.#drainReason !== undefined) this.#send({ kind: 'drain', reason: this.#drainReason });
  }

  /** An evaluation has no generations, and its batches are dealt again: nothing is sent again. */
  #welcomeEvaluation(message: MessageOf<'welcome-evaluation'>): void {
    const { cluster } = checkEvaluationConfig(message.config, 'the config from the coordinator');
    this.#runId = message.runId;
    this.#epoch = message.epoch;
    this.#isWelcomed = true;
    this.#line!.welcome({ cluster, numLanes: 0 });
    this.#init.emit(message);
  }

  #form(message: MessageOf<'form'>): void {
    const { dataPlane, emit } = this.#init;
    this.#generation = new GenerationSession({
      form: message,
      config: this.#config!,
      dataPlane,
      emit,
      send: (sent) => this.#send(sent),
    });
    void this.#generation.form();
  }

  /** Tries links while the generation goes on; compute thread and channels know nothing of it. Never rejects. */
  async #probeLinks(message: ProbeMessage): Promise<void> {
    const { epoch, trial } = message;
    this.#trial.abort(new TrainerError('ABORTED', `link trial ${trial} has begun`));
    this.#trial = new AbortController();
    const { signal } = this.#trial;
    try {
      const fault = await this.#init.dataPlane.probeLinks({ message, config: this.#config!, signal });
      const error = fault === undefined ? {} : { error: toErrorRecord(fault) };
      if (!signal.aborted) this.#send({ kind: 'links-probed', epoch, trial, ...error });
    } catch (error) {
      if (!signal.aborted) this.#lose(toTrainerError(error));
    }
  }

  #lose(error: TrainerError): void {
    if (this.#end.signal.aborted) return;
    this.#init.emit({ kind: 'lost', error: toErrorRecord(error) });
    void this.#shutDown(error, error.code);
  }

  /** Resolves when every socket is closed. */
  #shutDown(error: TrainerError, code: TrainerError['code'] | 'NORMAL'): Promise<unknown> {
    this.#end.abort(error);
    this.#generation?.end(error.message);
    this.#trial.abort(error);
    this.#line?.close(code, error.message);
    this.#closed ??= Promise.allSettled([
      this.#init.dataPlane.close(),
      this.#generation?.closed(),
      this.#line?.closed(),
    ]);
    return this.#closed;
  }
}
