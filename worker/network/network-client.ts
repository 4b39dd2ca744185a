/**
 * The compute thread's side of the network thread: receives the coordinator's commands in their order, each with the signal that aborts it,
 * and waits for sums and states. An abort takes effect at once, also for commands that are still queued.
 */
import { waitAtMost } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import { assertInvariant, fromErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { Mailbox } from '../../shared/mailbox.ts';
import type { Deal, Reduced, Reducer, NetworkEvent, NetworkRequest } from './network-messages.ts';
import type { Refusal } from '../../shared/transport/transport.ts';
import type { StateTensors } from '../state/state-pieces.ts';

/** Commands that may be queued; the coordinator deals only a few steps ahead. */
const COMMAND_CAPACITY = 1_024;
/** Answers that may be queued: a step has one sum, a generation one copied state and one failure. */
const ANSWER_CAPACITY = 8;
/** The network thread keeps the deadlines of these waits, which end with an event or their signal. A wait is renewed this often, ms. */
const WAIT_MS = 60_000;
/** Time for the network thread to close its sockets, ms. */
const LEAVE_DEADLINE_MS = 2_000;

type Answer = Extract<NetworkEvent, { kind: 'reduced' | 'state-copied' | 'generation-failed' }>;
export type CoordinatorCommand = Exclude<NetworkEvent, Answer | { kind: 'refused' | 'no-outbox' | 'waiting' | 'lost' }>;

export interface Command {
  readonly command: CoordinatorCommand;
  /** Fires when the command is aborted: by an abort, by another welcome, or when the coordinator is gone for good; a batch also by any other command. */
  readonly signal: AbortSignal;
}

/** The network side; the product runs it in a thread of its own. */
export interface NetworkPort {
  post(request: NetworkRequest): void;
  /** Resolves when the network side has ended. */
  readonly exited: Promise<void>;
  stop(): Promise<void>;
}

export interface NetworkClientInit {
  /** Starts the network side. @param onFailed it threw */
  readonly start: (onEvent: (event: NetworkEvent) => void, onFailed: (error: TrainerError) => void) => NetworkPort;
  readonly clock: Clock;
  /** Called for each deal on arrival, before its command's turn: the feed reads ahead. */
  readonly onDeal: (deal: Deal) => void;
  readonly onRefused: (refusal: Refusal) => void;
  /** No outbox: gradients for workers of this host go through sockets, which is slower. */
  readonly onNoOutbox: (error: TrainerError) => void;
  /** The coordinator does not answer and is dialled again. */
  readonly onWaiting: (reason: string) => void;
}

export class NetworkClient implements Reducer {
  readonly #init: NetworkClientInit;
  readonly #port: NetworkPort;
  readonly #commands: Mailbox<Command>;
  /** Answers of the current generation. */
  #answers: Mailbox<Answer>;
  #generation = 0;
  /** The current generation's failure, once a wait has thrown it. */
  #generationError: TrainerError | undefined;
  /** Aborts every command received so far. */
  #current = new AbortController();
  /** Aborts the batches received so far: any other command that follows one calls it off. */
  #batches = new AbortController();
  /** Fires when no further command can come. */
  readonly #lost = new AbortController();

  constructor(init: NetworkClientInit) {
    this.#init = init;
    this.#commands = new Mailbox(COMMAND_CAPACITY, init.clock);
    this.#answers = new Mailbox(ANSWER_CAPACITY, init.clock);
    this.#port = init.start(
      (event) => this.#receive(event),
      (error) => this.#lose(error),
    );
  }

  /** Fires, with the error as reason, when the coordinator is gone for good or the network thread failed. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** The error that `reduced` or `copyState` threw for the current generation; the coordinator has it. */
  get generationError(): TrainerError | undefined {
    return this.#generationError;
  }

  /** The next command; the network thread keeps the coordinator's deadlines. @throws what ended the connection, ABORTED */
  async nextCommand(signal: AbortSignal): Promise<Command> {
    const either = AbortSignal.any([signal, this.lost]);
    for (;;) {
      if (this.lost.aborted) throw toTrainerError(this.lost.reason);
      let next: Command | undefined;
      try {
        next = await this.#commands.next(WAIT_MS, either);
      } catch (error) {
        throw signal.aborted ? error : toTrainerError(this.lost.reason ?? error);
      }
      if (next !== undefined) return next;
    }
  }

  post(request: NetworkRequest): void {
    this.#port.post(request);
  }

  beginStep(step: number): void {
    this.post({ kind: 'begin-step', step });
  }

  bucketReady(bucket: number): void {
    this.post({ kind: 'bucket-ready', bucket });
  }

  /** @throws the generation's failure, ABORTED */
  async reduced(step: number, signal: AbortSignal): Promise<Reduced> {
    const reduced = await this.#answer(signal);
    assertInvariant(
      reduced.kind === 'reduced' && reduced.step === step,
      `the network thread answered ${reduced.kind} while step ${step} is under way`,
    );
    return reduced;
  }

  /** Fills the tensors from the peers that hold the state. @throws the generation's failure, ABORTED */
  async copyState(step: number, tensors: StateTensors, signal: AbortSignal): Promise<void> {
    this.post({ kind: 'copy-state', step, tensors });
    const copied = await this.#answer(signal);
    assertInvariant(
      copied.kind === 'state-copied',
      `the network thread answered ${copied.kind} while the state is copied`,
    );
  }

  /** Closes the sockets in order, then ends the thread. @param reason for the coordinator */
  async leave(reason: string): Promise<void> {
    this.post({ kind: 'leave', reason });
    await waitAtMost(this.#port.exited, LEAVE_DEADLINE_MS, this.#init.clock);
    await this.#port.stop();
  }

  async #answer(signal: AbortSignal): Promise<Exclude<Answer, { kind: 'generation-failed' }>> {
    const answers = this.#answers;
    for (;;) {
      if (this.#generationError !== undefined) throw this.#generationError;
      const answer = await answers.next(WAIT_MS, signal);
      if (answer === undefined) continue;
      if (answer.kind !== 'generation-failed') return answer;
      this.#generationError = fromErrorRecord(answer.error);
    }
  }

  /** Runs in a message event, where nobody catches. */
  #receive(event: NetworkEvent): void {
    try {
      this.#handle(event);
    } catch (error) {
      this.#lose(toTrainerError(error));
    }
  }

  #lose(error: TrainerError): void {
    this.#current.abort(error);
    this.#lost.abort(error);
  }

  #handle(event: NetworkEvent): void {
    switch (event.kind) {
      case 'refused':
        this.#init.onRefused(event.refusal);
        return;
      case 'no-outbox':
        this.#init.onNoOutbox(fromErrorRecord(event.error));
        return;
      case 'waiting':
        this.#init.onWaiting(event.reason);
        return;
      case 'lost':
        this.#lose(fromErrorRecord(event.error));
        return;
      case 'reduced':
      case 'state-copied':
        assertInvariant(this.#answers.put(event), 'one answer at a time');
        return;
      case 'generation-failed':
        if (event.generation === this.#generation)
          assertInvariant(this.#answers.put(event), 'a generation fails at most once');
        return;
      case 'welcome':
      case 'welcome-evaluation':
      case 'abort':
        this.#callOff(event.kind === 'abort' ? event.reason : `the coordinator of epoch ${event.epoch} has taken over`);
        break;
      case 'form':
        this.#callOff(`generation ${event.generation} is being formed`);
        this.#generation = event.generation;
        this.#answers = new Mailbox(ANSWER_CAPACITY, this.#init.clock);
        this.#generationError = undefined;
        break;
      case 'deal':
        this.#init.onDeal(event);
        break;
      case 'formed':
      case 'evaluate':
      case 'save':
      case 'finish':
        break;
    }
    const signal = event.kind === 'evaluate' ? this.#signalOfBatch() : this.#current.signal;
    if (event.kind !== 'evaluate') this.#callOffBatches(event.kind);
    if (!this.#commands.put({ command: event, signal }))
      throw new TrainerError(
        'SEND_OVERFLOW',
        `expected at most ${COMMAND_CAPACITY} queued commands, the coordinator sent more`,
      );
  }

  #signalOfBatch(): AbortSignal {
    return AbortSignal.any([this.#current.signal, this.#batches.signal]);
  }

  /** An ending that saves does not wait for the batches of a validation. @param kind of the command that has come */
  #callOffBatches(kind: string): void {
    this.#batches.abort(new TrainerError('ABORTED', `${kind} has come after the batch`));
    this.#batches = new AbortController();
  }

  /** Aborts the commands received so far, not those that follow. */
  #callOff(reason: string): void {
    this.#current.abort(new TrainerError('ABORTED', reason));
    this.#current = new AbortController();
  }
}
