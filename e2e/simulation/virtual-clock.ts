/**
 * Virtual time: a queue of events, and a driver that fires them one by one. All effects of an event are complete before the next one
 * fires. So a run is a pure function of its seed, and a virtual minute costs milliseconds.
 *
 * Assumptions. Simulated code waits only for events of this queue, promises and setImmediate: a timer, a socket or a thread would make the
 * order depend on the machine. The clock stands still while a file system operation is pending. A run stays reproducible only if there is one
 * such operation at a time, so avoid them. A callback that throws ends the run with its error, as an uncaught exception ends a process.
 */
import { assertInvariant, toTrainerError, TrainerError } from '../../shared/errors.ts';
import { hashName } from '../../shared/random.ts';
import { EventQueue, type QueuedEvent } from './event-queue.ts';

/** Times are multiples of 1/1024 ms: their sums and differences are exact, so no time is ever negative. */
const TICKS_PER_MS = 1024;
/** Limit of real time for the effects of one event, ms. */
const IDLE_DEADLINE_MS = 10_000;

export interface ScheduledEvent {
  cancel(): void;
}

/** A run beyond these limits fails. */
export interface RunLimits {
  /** Events fired in this run. */
  readonly maxEvents: number;
  /** Virtual time of this run, ms. */
  readonly maxMs: number;
}

const DEFAULT_LIMITS: RunLimits = { maxEvents: 1_000_000, maxMs: 24 * 3_600_000 };

/** Two drivers would wait for each other to become idle. */
let isDriving = false;

export class VirtualTime {
  readonly #queue = new EventQueue();
  readonly #atEvents = new Map<number, QueuedEvent[]>();
  readonly #labelHashes = new Map<string, number>();
  #nowMs = 0;
  #numScheduled = 0;
  #numFired = 0;
  #traceDigest = 0;
  /** Called with every line of the trace: events and notes. */
  onTrace: ((ms: number, line: string) => void) | undefined;

  /** ms since the beginning. */
  get nowMs(): number {
    return this.#nowMs;
  }

  get numFired(): number {
    return this.#numFired;
  }

  /** Digest of all fired events and notes so far, with their order and times. Equal for equal runs. uint32 */
  get traceDigest(): number {
    return this.#traceDigest;
  }

  /** Fires after `delayMs`, rounded to 1/1024 ms. @param label process and action; for traces */
  schedule(delayMs: number, label: string, fire: () => void): ScheduledEvent {
    assertInvariant(Number.isFinite(delayMs) && delayMs >= 0, `${label}: a delay of ${delayMs} ms`);
    const dueMs = this.#nowMs + Math.round(delayMs * TICKS_PER_MS) / TICKS_PER_MS;
    const event: QueuedEvent = { dueMs, sequence: this.#numScheduled++, label, fire, isCancelled: false };
    this.#queue.push(event);
    return { cancel: () => (event.isCancelled = true) };
  }

  /** Fires after `numFired` events and before the next one, so a number names any moment of a run. */
  atEvent(numFired: number, label: string, fire: () => void): ScheduledEvent {
    const event: QueuedEvent = { dueMs: 0, sequence: 0, label, fire, isCancelled: false };
    const events = this.#atEvents.get(numFired) ?? [];
    this.#atEvents.set(numFired, [...events, event]);
    return { cancel: () => (event.isCancelled = true) };
  }

  /** Adds a line to the trace that is not an event. */
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
   * Fires events until virtual time is `goal` (ms), or until `goal()` is true between two events. Only one run at a time in a process.
   * @throws INTERNAL if no event is left or a limit is reached; the error of a callback
   */
  async run(goal: number | (() => boolean), limits: Partial<RunLimits> = {}): Promise<void> {
    assertInvariant(!isDriving, 'virtual time is driven by one run at a time');
    const { maxEvents, maxMs } = { ...DEFAULT_LIMITS, ...limits };
    const last = { numFired: this.#numFired + maxEvents, ms: this.#nowMs + maxMs };
    isDriving = true;
    try {
      await new Promise<void>((resolve, reject) => {
        let busySinceMs: number | undefined;
        const turn = (): void => {
          try {
            if (!isIdle()) {
              busySinceMs ??= performance.now();
              if (performance.now() - busySinceMs > IDLE_DEADLINE_MS) throw this.#endless('does not become idle');
            } else {
              busySinceMs = undefined;
              if (this.#advance(goal, last)) {
                resolve();
                return;
              }
            }
            // One event per turn of the event loop: promises of the last event have settled, and its immediates have run.
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

  /** Fires the next event. @returns true, without firing, if the goal is reached */
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
    if (next === undefined) throw this.#endless('cannot advance, because no event is scheduled,');
    if (this.#numFired >= last.numFired) throw this.#endless('has reached the limit of events');
    if (next.dueMs > last.ms) throw this.#endless('has reached the limit of time');
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
    return new TrainerError('INTERNAL', `virtual time ${what} ${where}; the goal was not reached`);
  }
}

/** Node's names of immediates and of file system requests. */
const PENDING = /^(Immediate|FS|FileHandle|CloseReq)/u;

/** Whether no immediate and no file system request is pending. Called at the start of a turn, when promises have settled. */
function isIdle(): boolean {
  for (const resource of process.getActiveResourcesInfo()) if (PENDING.test(resource)) return false;
  return true;
}
