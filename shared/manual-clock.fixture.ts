/** A clock that a test moves: by `advance`, or by `during` for as long as some work needs. */
import type { Clock } from './clock.ts';
import { assertInvariant, TrainerError } from './errors.ts';

/** Work that is not done after this time waits for an event that cannot come, ms of this clock. */
const LONGEST_WORK_MS = 3_600_000;
/** Real time within which the event loop must come to rest, ms. */
const QUIET_DEADLINE_MS = 120_000;

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

export class ManualClock implements Clock {
  readonly #sleepers = new Set<Sleeper>();
  #nowMs = 0;
  #isDriven = false;

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
        reject(new TrainerError('ABORTED', `waiting for ${ms} ms was aborted`));
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

  /** Number of sleeps under way. */
  get numSleeping(): number {
    return this.#sleepers.size;
  }

  /** Moves time forward at once, then wakes the sleepers that are due: as if nothing could run meanwhile. */
  async advance(ms: number): Promise<void> {
    this.#nowMs += ms;
    for (const sleeper of this.#sleepers) if (sleeper.dueMs <= this.#nowMs) this.#wake(sleeper);
    await rest();
  }

  /**
   * Lets time pass until the work is done: whenever the event loop is at rest, the next sleeper wakes.
   * One work at a time; other activity of the test meanwhile sleeps by this clock.
   * @throws the error of the work; INTERNAL if no event can end it
   */
  async during<T>(work: Promise<T>): Promise<T> {
    assertInvariant(!this.#isDriven, 'the clock is driven by one work at a time');
    this.#isDriven = true;
    try {
      return await this.#drive(work);
    } finally {
      this.#isDriven = false;
    }
  }

  async #drive<T>(work: Promise<T>): Promise<T> {
    const progress = { isOver: false };
    const over = (): void => {
      progress.isOver = true;
    };
    work.then(over, over);
    const startedMs = this.#nowMs;
    for (;;) {
      await rest(() => progress.isOver);
      if (progress.isOver) return work;
      let first: Sleeper | undefined;
      for (const sleeper of this.#sleepers) if (first === undefined || sleeper.dueMs < first.dueMs) first = sleeper;
      if (first === undefined || first.dueMs - startedMs > LONGEST_WORK_MS)
        throw new TrainerError('INTERNAL', `the work that began at ${startedMs} ms is not done at ${this.#nowMs} ms`);
      this.#nowMs = Math.max(this.#nowMs, first.dueMs);
      this.#wake(first);
    }
  }

  #wake(sleeper: Sleeper): void {
    this.#sleepers.delete(sleeper);
    sleeper.wake();
  }
}

/**
 * Turns the event loop until nothing is under way that needs no time of a clock: no immediate, no request to the file system.
 * Sockets do not count: a message on its way through the kernel is not waited for.
 * @param isOver ends the wait early @throws INTERNAL after QUIET_DEADLINE_MS
 */
export async function rest(isOver: () => boolean = () => false): Promise<void> {
  const startMs = performance.now();
  do {
    await turn();
    assertInvariant(performance.now() - startMs < QUIET_DEADLINE_MS, 'the event loop does not come to rest');
  } while (!isOver() && !isQuiet());
}

/** Node's names of immediates and of requests to the file system. */
const MOVING = /^(Immediate|FS|FileHandle|CloseReq)/u;

function isQuiet(): boolean {
  return !process.getActiveResourcesInfo().some((resource) => MOVING.test(resource));
}

function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
