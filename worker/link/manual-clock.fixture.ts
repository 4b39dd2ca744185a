/** A clock that stands still until the test moves it. */
import type { Clock } from '../../shared/clock.ts';
import { TrainerError } from '../../shared/errors.ts';

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

export class ManualClock implements Clock {
  readonly #sleepers = new Set<Sleeper>();
  #nowMs = 0;

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#sleepers.delete(sleeper);
        reject(new TrainerError('ABORTED', `waiting for ${ms} ms was called off`));
      };
      const wake = (): void => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const sleeper = { dueMs: this.#nowMs + ms, wake };
      if (signal?.aborted === true) onAbort();
      else {
        this.#sleepers.add(sleeper);
        signal?.addEventListener('abort', onAbort, { once: true });
      }
    });
  }

  /** Sleeps under way. */
  get numSleeping(): number {
    return this.#sleepers.size;
  }

  /** Moves time on and wakes who is due; then lets the event loop turn, so that what they do has been done. */
  async advance(ms: number): Promise<void> {
    this.#nowMs += ms;
    for (const sleeper of this.#sleepers)
      if (sleeper.dueMs <= this.#nowMs) {
        this.#sleepers.delete(sleeper);
        sleeper.wake();
      }
    for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  }
}
