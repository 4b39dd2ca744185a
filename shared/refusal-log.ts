/**
 * Logs refused connections, at most MAX_LINES in a window of one minute, so that strangers cannot fill the disk. The first line of a later
 * window counts the refusals that were not logged.
 */
import type { Clock } from './clock.ts';
import type { Logger } from './logger.ts';
import type { Refusal } from './transport/transport.ts';

/** Most lines of one window. */
export const MAX_LINES = 20;
export const WINDOW_MS = 60_000;

export class RefusalLog {
  readonly #log: Logger;
  readonly #clock: Clock;
  #windowStartMs: number;
  #lines = 0;
  #leftOut = 0;

  constructor(log: Logger, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
    this.#windowStartMs = clock.monotonicMs();
  }

  refused(refusal: Refusal): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#windowStartMs >= WINDOW_MS) {
      this.#windowStartMs = nowMs;
      this.#lines = 0;
    }
    if (this.#lines >= MAX_LINES) {
      this.#leftOut += 1;
      return;
    }
    this.#lines += 1;
    const leftOut = this.#leftOut === 0 ? {} : { leftOut: this.#leftOut };
    this.#leftOut = 0;
    this.#log.warn({ ...refusal, ...leftOut }, 'connection refused');
  }
}
