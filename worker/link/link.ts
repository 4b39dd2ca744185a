/**
 * The compute thread's side of the link: starts the thread, takes the coordinator's commands in their order, and waits for sums.
 * An abort interrupts a step under way through `stepSignal`, ahead of the commands that still wait.
 */
import { assertInvariant, fromErrorRecord, toErrorRecord, TrainerError } from '../../shared/errors.ts';
import { Mailbox } from '../../shared/mailbox.ts';
import { Thread } from '../../shared/thread/thread.ts';
import type { Deal, Reduced, Reducer } from '../compute/step-runner.ts';
import type { Refusal } from '../../shared/transport/transport.ts';
import type { LinkData, LinkEvent, LinkRequest } from './link-messages.ts';

/** Deals, saves and the like that may wait; the coordinator deals only a few steps ahead. */
const COMMAND_CAPACITY = 1_024;
/** How often a wait looks whether something else has happened, ms. */
const POLL_MS = 1_000;
/** Time for the link thread to say good-bye, ms. */
const LEAVE_DEADLINE_MS = 2_000;

export type Command = Exclude<LinkEvent, { kind: 'reduced' | 'collective-failed' | 'refused' }>;

export interface LinkInit extends LinkData {
  /** Sees each deal when it arrives, ahead of its turn among the commands: the feed reads ahead. */
  readonly onDeal: (deal: Deal) => void;
  readonly onRefused: (refusal: Refusal) => void;
}

export class Link implements Reducer {
  readonly #thread: Thread<LinkRequest, LinkEvent>;
  readonly #commands = new Mailbox<Command>(COMMAND_CAPACITY);
  readonly #sums = new Mailbox<Reduced>(2);
  readonly #abort = new AbortController();
  #collectiveError: TrainerError | undefined;

  readonly #onDeal: (deal: Deal) => void;
  readonly #onRefused: (refusal: Refusal) => void;

  constructor({ onDeal, onRefused, ...data }: LinkInit) {
    this.#onDeal = onDeal;
    this.#onRefused = onRefused;
    this.#thread = new Thread({
      module: new URL('./link-thread.ts', import.meta.url),
      data,
      onFailed: (error) => this.#take({ kind: 'lost', error: toErrorRecord(error) }),
      onMessage: (event: LinkEvent) => this.#take(event),
    });
  }

  /** Fires when the step under way is to be dropped: the run is ending. */
  get stepSignal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The next command; waits as long as the link lives, whose thread watches the coordinator. */
  async nextCommand(signal: AbortSignal): Promise<Command> {
    for (;;) {
      const command = await this.#commands.next(POLL_MS, signal);
      if (command !== undefined) return command;
    }
  }

  post(request: LinkRequest): void {
    this.#thread.post(request);
  }

  beginStep(step: number): void {
    this.post({ kind: 'begin-step', step });
  }

  bucketReady(bucket: number): void {
    this.post({ kind: 'bucket-ready', bucket });
  }

  async reduced(step: number, signal: AbortSignal): Promise<Reduced> {
    for (;;) {
      if (this.#collectiveError !== undefined) throw this.#collectiveError;
      const reduced = await this.#sums.next(POLL_MS, signal);
      if (reduced === undefined) continue;
      assertInvariant(reduced.step === step, `the link reduced step ${reduced.step} while step ${step} is under way`);
      return reduced;
    }
  }

  /** Closes the sockets in good order, then ends the thread. */
  async leave(): Promise<void> {
    this.post({ kind: 'leave' });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LEAVE_DEADLINE_MS);
    });
    await Promise.race([this.#thread.exited, late]);
    clearTimeout(timer);
    await this.#thread.stop();
  }

  #take(event: LinkEvent): void {
    if (event.kind === 'reduced') {
      assertInvariant(this.#sums.put(event), 'one sum at a time');
      return;
    }
    if (event.kind === 'refused') {
      this.#onRefused(event.refusal);
      return;
    }
    if (event.kind === 'collective-failed') {
      this.#collectiveError ??= fromErrorRecord(event.error);
      return;
    }
    if (event.kind === 'abort' || event.kind === 'lost') {
      const reason = event.kind === 'abort' ? event.reason : event.error.message;
      this.#abort.abort(new TrainerError('ABORTED', reason));
    }
    if (event.kind === 'deal') this.#onDeal(event);
    if (!this.#commands.put(event))
      throw new TrainerError('SEND_OVERFLOW', `${COMMAND_CAPACITY} commands of the coordinator wait`);
  }
}
