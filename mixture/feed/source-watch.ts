/**
 * Reports a remote source that does not answer: when a read has been running for long, again when the reason changes
 * and every 10 s, and once when the source answers again. It decides nothing; shared/storage retries the reads.
 *
 * Definition: the source is stalled while its oldest running read is older than `stalledAfterMs`.
 */
import { systemClock, type Clock } from '../../shared/clock.ts';

/** Interval between two checks of running reads, ms. */
const TICK_MS = 250;
const STALLED_AFTER_MS = 3_000;
const REPEAT_MS = 10_000;

export type SourceNotice =
  | {
      readonly kind: 'stalled';
      /** Location of the oldest read. */
      readonly place: string;
      /** Time since the oldest read began, ms. */
      readonly forMs: number;
      /** Failed attempts of all reads since then. */
      readonly attempts: number;
      /** The last failure, or "no answer yet". */
      readonly reason: string;
    }
  | { readonly kind: 'answers'; readonly forMs: number; readonly attempts: number };

export interface SourceWatchInit {
  readonly onNotice: (notice: SourceNotice) => void;
  readonly clock?: Clock;
  readonly stalledAfterMs?: number;
}

/** A running read. */
export interface WatchedRead {
  readonly place: string;
  readonly sinceMs: number;
}

interface Stall {
  readonly sinceMs: number;
  readonly reportedMs: number;
  readonly reason: string;
}

/** Failed attempts of running reads. */
interface Failures {
  readonly attempts: number;
  readonly lastMs: number;
  readonly reason: string;
}

const NO_FAILURES: Failures = { attempts: 0, lastMs: -Infinity, reason: 'no answer yet' };

export class SourceWatch {
  readonly #clock: Clock;
  readonly #stalledAfterMs: number;
  readonly #onNotice: (notice: SourceNotice) => void;
  /** In the order in which they began. */
  readonly #reads = new Set<WatchedRead>();
  readonly #end = new AbortController();
  #isTicking = false;
  #stall: Stall | undefined;
  #failures = NO_FAILURES;

  constructor({ onNotice, clock, stalledAfterMs }: SourceWatchInit) {
    this.#clock = clock ?? systemClock;
    this.#stalledAfterMs = stalledAfterMs ?? STALLED_AFTER_MS;
    this.#onNotice = onNotice;
  }

  begin(place: string): WatchedRead {
    const read = { place, sinceMs: this.#clock.monotonicMs() };
    this.#reads.add(read);
    if (!this.#isTicking) void this.#tick();
    return read;
  }

  end(read: WatchedRead): void {
    this.#reads.delete(read);
    if (this.#stall !== undefined) this.#check();
  }

  /** An attempt failed and will be repeated. */
  retried({ reason }: { readonly reason: string }): void {
    const { attempts } = this.#currentFailures();
    this.#failures = { attempts: attempts + 1, lastMs: this.#clock.monotonicMs(), reason };
    this.#check();
  }

  close(): void {
    this.#end.abort();
  }

  async #tick(): Promise<void> {
    this.#isTicking = true;
    try {
      while (this.#reads.size > 0) {
        await this.#clock.sleep(Math.min(TICK_MS, this.#stalledAfterMs), this.#end.signal);
        this.#check();
      }
    } catch {
      // closed: no listener is left
    } finally {
      this.#isTicking = false;
    }
  }

  #check(): void {
    const nowMs = this.#clock.monotonicMs();
    const [oldest] = this.#reads;
    const isStalled = oldest !== undefined && nowMs - oldest.sinceMs >= this.#stalledAfterMs;
    if (!isStalled) {
      if (this.#stall === undefined) return;
      const forMs = Math.round(nowMs - this.#stall.sinceMs);
      const { attempts } = this.#currentFailures();
      this.#stall = undefined;
      this.#failures = NO_FAILURES;
      this.#onNotice({ kind: 'answers', forMs, attempts });
      return;
    }
    const { attempts, reason } = this.#currentFailures();
    const before = this.#stall;
    if (before !== undefined && before.reason === reason && nowMs - before.reportedMs < REPEAT_MS) return;
    const sinceMs = before?.sinceMs ?? oldest.sinceMs;
    this.#stall = { sinceMs, reportedMs: nowMs, reason };
    const forMs = Math.round(nowMs - sinceMs);
    this.#onNotice({ kind: 'stalled', place: oldest.place, forMs, attempts, reason });
  }

  /** Failures before the oldest running read, or before the stall, do not count. */
  #currentFailures(): Failures {
    const [oldest] = this.#reads;
    const sinceMs = this.#stall?.sinceMs ?? oldest?.sinceMs ?? Infinity;
    return this.#failures.lastMs >= sinceMs ? this.#failures : NO_FAILURES;
  }
}
