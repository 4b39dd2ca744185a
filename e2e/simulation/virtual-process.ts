/**
 * A process of the simulation. Its code is called only by its clock, sockets and disk, and these ask here whether they may call. The code
 * of a crashed process is never called again, and its promises never settle. Calls into a stopped process (SIGSTOP) are deferred until it is
 * continued, while its clock and kernel continue.
 */
import { abortedError } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import { assertInvariant } from '../../shared/errors.ts';
import type { ScheduledEvent, VirtualTime } from './virtual-clock.ts';

export type ProcessState = 'running' | 'stopped' | 'crashed';

/** 2026-01-01. Wall time is used only for names and logs. */
const WALL_ORIGIN_MS = 1_767_225_600_000;
/** Limit of deferred calls into a stopped process. */
const MAX_DEFERRED = 100_000;

interface Task {
  readonly label: string;
  readonly fire: () => void;
  isCancelled: boolean;
}

export class VirtualProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly #time: VirtualTime;
  readonly #onCrash: (() => void)[] = [];
  readonly #onContinue: (() => void)[] = [];
  #deferred: Task[] = [];
  #state: ProcessState = 'running';

  /** @param originMs start of its monotonic clock; it differs between hosts */
  constructor(time: VirtualTime, name: string, originMs = 0) {
    this.#time = time;
    this.name = name;
    const label = `${name}: sleep`;
    this.clock = {
      monotonicMs: () => originMs + time.nowMs,
      wallMs: () => WALL_ORIGIN_MS + time.nowMs,
      sleep: (ms, signal) => this.#sleep(ms, label, signal),
    };
  }

  get state(): ProcessState {
    return this.#state;
  }

  /** Like SIGKILL. Calls the listeners of its kernel. */
  crash(): void {
    if (this.#state === 'crashed') return;
    this.#state = 'crashed';
    this.#deferred = [];
    for (const listener of this.#onCrash) listener();
  }

  /** Like SIGSTOP. */
  stop(): void {
    if (this.#state === 'running') this.#state = 'stopped';
  }

  /** Like SIGCONT: deferred calls happen now, in order. */
  continue(): void {
    if (this.#state !== 'stopped') return;
    this.#state = 'running';
    const deferred = this.#deferred;
    this.#deferred = [];
    for (const task of deferred) this.#time.schedule(0, task.label, () => this.#dispatch(task));
    for (const listener of this.#onContinue) listener();
  }

  /** @param listener of the kernel, called after a crash */
  onCrash(listener: () => void): void {
    this.#onCrash.push(listener);
  }

  /** @param listener of the kernel, called after the process was continued */
  onContinue(listener: () => void): void {
    this.#onContinue.push(listener);
  }

  /** Calls into the process after `delayMs`, with the rules of `enter`. */
  schedule(delayMs: number, label: string, fire: () => void): ScheduledEvent {
    const task: Task = { label, fire, isCancelled: false };
    const event = this.#time.schedule(delayMs, label, () => this.#dispatch(task));
    return {
      cancel: () => {
        task.isCancelled = true;
        event.cancel();
      },
    };
  }

  /** Calls into the process: now if it runs, when it is continued if it is stopped, never if it has crashed. */
  enter(label: string, fire: () => void): void {
    this.#dispatch({ label, fire, isCancelled: false });
  }

  #dispatch(task: Task): void {
    if (task.isCancelled || this.#state === 'crashed') return;
    if (this.#state === 'running') task.fire();
    else {
      assertInvariant(
        this.#deferred.length < MAX_DEFERRED,
        `more than ${MAX_DEFERRED} calls wait for the stopped process ${this.name}`,
      );
      this.#deferred.push(task);
    }
  }

  #sleep(ms: number, label: string, signal: AbortSignal | undefined): Promise<void> {
    const doing = `waiting for ${ms} ms`;
    if (signal?.aborted === true) return Promise.reject(abortedError(doing, signal));
    return new Promise((resolve, reject) => {
      const event = this.schedule(Math.max(0, ms), label, () => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      });
      const onAbort = (): void => {
        event.cancel();
        this.enter(label, () => reject(abortedError(doing, signal)));
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }
}
