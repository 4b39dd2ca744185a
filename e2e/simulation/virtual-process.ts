/**
 * A process of the simulation: what runs in it is only reached through its clock, its sockets and its disk, and these ask here whether
 * it may be reached. Crashed, nothing of it is called again and none of its promises settles; stopped (SIGSTOP), what is due for it is
 * held back until it is continued, while its clock and the kernel under it go on.
 */
import { abortedError } from '../../shared/abort.ts';
import type { Clock } from '../../shared/clock.ts';
import { assertInvariant } from '../../shared/errors.ts';
import type { ScheduledEvent, VirtualTime } from './virtual-clock.ts';

export type ProcessState = 'running' | 'stopped' | 'crashed';

/** 2026-01-01; wall time is for names and logs only. */
const WALL_ORIGIN_MS = 1_767_225_600_000;
/** Things that may be held back for a stopped process. */
const MAX_HELD = 100_000;

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
  #held: Task[] = [];
  #state: ProcessState = 'running';

  /** @param originMs what its monotonic clock shows at the beginning: no two hosts agree */
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

  /** As SIGKILL: for good. Listeners are those of the kernel under it. */
  crash(): void {
    if (this.#state === 'crashed') return;
    this.#state = 'crashed';
    this.#held = [];
    for (const listener of this.#onCrash) listener();
  }

  /** As SIGSTOP. */
  stop(): void {
    if (this.#state === 'running') this.#state = 'stopped';
  }

  /** As SIGCONT: what was held back comes now, in its order. */
  continue(): void {
    if (this.#state !== 'stopped') return;
    this.#state = 'running';
    const held = this.#held;
    this.#held = [];
    for (const task of held) this.#time.schedule(0, task.label, () => this.#dispatch(task));
    for (const listener of this.#onContinue) listener();
  }

  /** @param listener of the kernel: called when the process has crashed */
  onCrash(listener: () => void): void {
    this.#onCrash.push(listener);
  }

  /** @param listener of the kernel: called when the process has been continued */
  onContinue(listener: () => void): void {
    this.#onContinue.push(listener);
  }

  /** Calls into the process after `delayMs`, if it may be called then. */
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

  /** Calls into the process now; once it is continued where it is stopped, never where it has crashed. */
  enter(label: string, fire: () => void): void {
    this.#dispatch({ label, fire, isCancelled: false });
  }

  #dispatch(task: Task): void {
    if (task.isCancelled || this.#state === 'crashed') return;
    if (this.#state === 'running') task.fire();
    else {
      assertInvariant(
        this.#held.length < MAX_HELD,
        `more than ${MAX_HELD} calls wait for ${this.name}, which is stopped`,
      );
      this.#held.push(task);
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
