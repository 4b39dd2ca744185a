/**
 * The compute thread's side of the link: starts the thread, takes the coordinator's commands in their order, and waits for sums.
 * An abort interrupts a step under way through `stepSignal`, ahead of the commands that still wait.
 */
import { assertInvariant, fromErrorRecord, toErrorRecord, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { systemClock } from '../../shared/clock.ts';
import { Mailbox } from '../../shared/mailbox.ts';
import { Thread } from '../../shared/thread/thread.ts';
import type { Deal, Reduced, Reducer } from '../compute/step-runner.ts';
import type { Refusal } from '../../shared/transport/transport.ts';
import type { LinkData, LinkEvent, LinkRequest } from './link-messages.ts';

/** Deals, saves and the like that may wait; the coordinator deals only a few steps ahead. */
const COMMAND_CAPACITY = 1_024;
/** These waits end with an event or their signal: the link thread keeps the deadlines. They are renewed so often, ms. */
const WAIT_MS = 60_000;
/** Time for the link thread to say good-bye, ms. */
const LEAVE_DEADLINE_MS = 2_000;

type CollectiveFailure = Extract<LinkEvent, { kind: 'collective-failed' }>;
export type Command = Exclude<
  LinkEvent,
  { kind: 'reduced' | 'collective-failed' | 'refused' | 'no-outbox' | 'waiting' }
>;

export interface LinkInit extends LinkData {
  /** Sees each deal when it arrives, ahead of its turn among the commands: the feed reads ahead. */
  readonly onDeal: (deal: Deal) => void;
  readonly onRefused: (refusal: Refusal) => void;
  /** Gradients go to the workers of this host through sockets alone, which is slower. */
  readonly onNoOutbox: (error: TrainerError) => void;
  /** The coordinator is not there yet. */
  readonly onWaiting: (reason: string) => void;
}

export class Link implements Reducer {
  readonly #thread: Thread<LinkRequest, LinkEvent>;
  readonly #commands = new Mailbox<Command>(COMMAND_CAPACITY, systemClock);
  /** The sum of the step under way, and what broke the collective after it. */
  readonly #sums = new Mailbox<Reduced | CollectiveFailure>(2, systemClock);
  readonly #abort = new AbortController();
  /** What broke the collective, once it has been taken out. */
  #collectiveError: TrainerError | undefined;
  /** Why no event can be taken any more. */
  #broken: TrainerError | undefined;
  readonly #onDeal: (deal: Deal) => void;
  readonly #onRefused: (refusal: Refusal) => void;
  readonly #onNoOutbox: (error: TrainerError) => void;
  readonly #onWaiting: (reason: string) => void;

  constructor({ onDeal, onRefused, onNoOutbox, onWaiting, ...data }: LinkInit) {
    this.#onDeal = onDeal;
    this.#onRefused = onRefused;
    this.#onNoOutbox = onNoOutbox;
    this.#onWaiting = onWaiting;
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

  /** What `reduced` failed with when it was the collective; the coordinator knows of it. */
  get collectiveError(): TrainerError | undefined {
    return this.#collectiveError;
  }

  /** The next command; waits as long as the link lives, whose thread watches the coordinator. @throws SEND_OVERFLOW, ABORTED */
  async nextCommand(signal: AbortSignal): Promise<Command> {
    for (;;) {
      if (this.#broken !== undefined) throw this.#broken;
      const command = await this.#commands.next(WAIT_MS, signal);
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
      const reduced = await this.#sums.next(WAIT_MS, signal);
      if (reduced?.kind === 'collective-failed') this.#collectiveError = fromErrorRecord(reduced.error);
      if (reduced?.kind !== 'reduced') continue;
      assertInvariant(reduced.step === step, `the link reduced step ${reduced.step} while step ${step} is under way`);
      return reduced;
    }
  }

  /** Closes the sockets in good order, then ends the thread. @param reason for the coordinator */
  async leave(reason: string): Promise<void> {
    this.post({ kind: 'leave', reason });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LEAVE_DEADLINE_MS);
    });
    await Promise.race([this.#thread.exited, late]);
    clearTimeout(timer);
    await this.#thread.stop();
  }

  /** Runs in an event of the thread, where nobody would catch. */
  #take(event: LinkEvent): void {
    try {
      this.#dispatch(event);
    } catch (error) {
      this.#broken ??= toTrainerError(error);
      this.#abort.abort(this.#broken);
      this.#commands.put({ kind: 'lost', error: toErrorRecord(this.#broken) }); // wakes who waits; where it is full nobody does
    }
  }

  #dispatch(event: LinkEvent): void {
    switch (event.kind) {
      case 'reduced':
      case 'collective-failed':
        assertInvariant(this.#sums.put(event), 'one sum at a time, and one failure');
        return;
      case 'refused':
        this.#onRefused(event.refusal);
        return;
      case 'no-outbox':
        this.#onNoOutbox(fromErrorRecord(event.error));
        return;
      case 'waiting':
        this.#onWaiting(event.reason);
        return;
      case 'abort':
        this.#abort.abort(new TrainerError('ABORTED', event.reason));
        break;
      case 'lost':
        this.#abort.abort(fromErrorRecord(event.error));
        break;
      case 'deal':
        this.#onDeal(event);
        break;
      case 'welcome':
      case 'formed':
      case 'save':
      case 'finish':
        break;
    }
    if (!this.#commands.put(event))
      throw new TrainerError('SEND_OVERFLOW', `${COMMAND_CAPACITY} commands of the coordinator wait already`);
  }
}
