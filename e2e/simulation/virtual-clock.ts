/**
 * Virtual time: a queue of events, and the driver that fires them one by one. Between two events everything that an event has set
 * in motion runs to its end, so a run is a pure function of its seed, and a minute of it costs milliseconds.
 *
 * Assumptions. Whatever is simulated waits by events of this queue, by promises, or by setImmediate, and by nothing else: a timer, a
 * socket or a thread would bring the order of the machine into the run. Work of the file system is waited for with the clock
 * standing still; it keeps a run reproducible only where one such operation is under way at a time, so leave it out where you can.
 * A callback that throws ends the run with its error, as an uncaught exception ends a process.
 */
import { assertInvariant, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { hashName } from '../../shared/random.ts';
import { EventQueue, type QueuedEvent } from './event-queue.ts';

/** Times are multiples of this: sums and differences of them are exact, so no time ever comes out below zero. */
const TICKS_PER_MS = 1024;
/** Real time for what one event set in motion to come to rest, ms. */
const QUIET_DEADLINE_MS = 10_000;

export interface ScheduledEvent {
  cancel(): void;
}

/** What ends a run that does not end by itself. */
export interface RunLimits {
  /** Events fired in this run. */
  readonly maxEvents: number;
  /** Virtual time of this run, ms. */
  readonly maxMs: number;
}

const DEFAULT_LIMITS: RunLimits = { maxEvents: 1_000_000, maxMs: 24 * 3_600_000 };

/** Two drivers would wait for each other to come to rest. */
let isDriving = false;

export class VirtualTime {
  readonly #queue = new EventQueue();
  readonly #atEvents = new Map<number, QueuedEvent[]>();
  readonly #labelHashes = new Map<string, number>();
  #nowMs = 0;
  #numScheduled = 0;
  #numFired = 0;
  #traceDigest = 0;
  /** Sees every line of the trace: events, and what was noted. */
  onTrace: ((ms: number, line: string) => void) | undefined;

  /** ms since the beginning. */
  get nowMs(): number {
    return this.#nowMs;
  }

  get numFired(): number {
    return this.#numFired;
  }

  /** Of all events fired and lines noted so far, in their order and with their times: equal for equal runs. uint32 */
  get traceDigest(): number {
    return this.#traceDigest;
  }

  /** Fires after `delayMs`, rounded to 1/1024 ms. @param label who does what; for traces */
  schedule(delayMs: number, label: string, fire: () => void): ScheduledEvent {
    assertInvariant(Number.isFinite(delayMs) && delayMs >= 0, `${label}: a delay of ${delayMs} ms`);
    const dueMs = this.#nowMs + Math.round(delayMs * TICKS_PER_MS) / TICKS_PER_MS;
    const event: QueuedEvent = { dueMs, sequence: this.#numScheduled++, label, fire, isCancelled: false };
    this.#queue.push(event);
    return { cancel: () => (event.isCancelled = true) };
  }

  /** Fires once `numFired` events have fired, ahead of the next one: any moment of a run can be named by a number. */
  atEvent(numFired: number, label: string, fire: () => void): ScheduledEvent {
    const event: QueuedEvent = { dueMs: 0, sequence: 0, label, fire, isCancelled: false };
    const events = this.#atEvents.get(numFired) ?? [];
    this.#atEvents.set(numFired, [...events, event]);
    return { cancel: () => (event.isCancelled = true) };
  }

  /** A line for the trace that is no event. */
  note(line: string): void {
    let hash = this.#labelHashes.get(line);
    if (hash === undefined) this.#labelHashes.set(line, (hash = hashName(line)));
    const ticks = this.#nowMs * TICKS_PER_MS;
    let digest = this.#traceDigest;
    for (const word of [hash, ticks >>> 0, Math.floor(ticks / 2 ** 32)])
      digest = Math.imul(digest ^ word, 0x9e3779b1) ^ (digest >>> 15);
    this.#traceDigest = digest >>> 0;
    this.onTrace?.(this.#nowMs, line);
  }

  /**
   * Fires events until virtual time has come to `goal` (ms), or until `goal` is true between two events. One run at a
   * time, in the whole of this process.
   * @throws INTERNAL where nothing is left that could make it true, or a limit is reached; what a callback throws
   */
  async run(goal: number | (() => boolean), limits: Partial<RunLimits> = {}): Promise<void> {
    assertInvariant(!isDriving, 'virtual time is driven by one run at a time');
    const { maxEvents, maxMs } = { ...DEFAULT_LIMITS, ...limits };
    const last = { numFired: this.#numFired + maxEvents, ms: this.#nowMs + maxMs };
    isDriving = true;
    try {
      await new Promise<void>((resolve, reject) => {
        let restlessSinceMs: number | undefined;
        const turn = (): void => {
          try {
            if (!isQuiet()) {
              restlessSinceMs ??= performance.now();
              if (performance.now() - restlessSinceMs > QUIET_DEADLINE_MS) throw this.#endless('does not come to rest');
            } else {
              restlessSinceMs = undefined;
              if (this.#advance(goal, last)) {
                resolve();
                return;
              }
            }
            // One event a turn of the event loop: promises of the event before have settled, its immediates have run.
            setImmediate(turn);
          } catch (error) {
            reject(toTrainerError(error));
          }
        };
        setImmediate(turn);
      });
    } finally {
      isDriving = false;
    }
  }

  /** Fires the next event. @returns true instead where the goal is reached */
  #advance(goal: number | (() => boolean), last: { readonly numFired: number; readonly ms: number }): boolean {
    const due = this.#atEvents.get(this.#numFired);
    if (due !== undefined && due.length > 0) {
      const [next, ...rest] = due;
      this.#atEvents.set(this.#numFired, rest);
      if (!next!.isCancelled) this.#fire(next!);
      return false;
    }
    if (typeof goal === 'function' && goal()) return true;
    const next = this.#queue.peek();
    if (typeof goal === 'number' && (next === undefined || next.dueMs > goal)) {
      this.#nowMs = Math.max(this.#nowMs, goal);
      return true;
    }
    if (next === undefined) throw this.#endless('stands still: nothing is scheduled');
    if (this.#numFired >= last.numFired) throw this.#endless('has fired as many events as one run may');
    if (next.dueMs > last.ms) throw this.#endless('has come to the end of what one run may take');
    this.#queue.pop();
    this.#nowMs = next.dueMs;
    this.#numFired += 1;
    this.#fire(next);
    return false;
  }

  #fire({ label, fire }: QueuedEvent): void {
    this.note(label);
    fire();
  }

  #endless(what: string): TrainerError {
    const where = `at ${this.#nowMs} ms after ${this.#numFired} events`;
    return new TrainerError('INTERNAL', `virtual time ${what} ${where}, and what was waited for has not happened`);
  }
}

/** Immediates, and requests to the file system by their names in Node. */
const MOVING = /^(Immediate|FS|FileHandle|CloseReq)/u;

/** Nothing that was set in motion still moves: promises have settled when this is asked, at the start of a turn. */
function isQuiet(): boolean {
  for (const resource of process.getActiveResourcesInfo()) if (MOVING.test(resource)) return false;
  return true;
}
