/**
 * Logs refused connections, at most MAX_LINES in a window of one minute, so that strangers cannot fill the disk. When the window ends, or the
 * log is closed, one line has the number of those that were left out.
 */
import type { Clock } from './clock.ts';
import type { Logger } from './logger.ts';
import type { Refusal } from './transport/transport.ts';

/** Most lines of one window. */
export const MAX_LINES = 20;
export const WINDOW_MS = 60_000;
/** Addresses that are counted apart in one window. */
const MAX_REMOTES = 1024;

export class RefusalLog {
  readonly #log: Logger;
  readonly #clock: Clock;
  #windowStartMs = -Infinity;
  #lines = 0;
  #leftOut = 0;
  readonly #byCode = new Map<string, number>();
  readonly #remotes = new Set<string>();
  readonly #closed = new AbortController();

  constructor(log: Logger, clock: Clock) {
    this.#log = log;
    this.#clock = clock;
  }

  refused(refusal: Refusal): void {
    this.bound(refusal, () => this.#log.warn({ ...refusal }, 'connection refused'));
  }

  /** Calls `write`, or counts the refusal where the window has no line left. */
  bound({ code, remote }: Pick<Refusal, 'code' | 'remote'>, write: () => void): void {
    if (this.#hasLine()) write();
    else this.#leaveOut(code, remote);
  }

  /** Logs what was left out. Idempotent. */
  close(): void {
    this.#closed.abort();
    this.#tell();
  }

  /** Whether this window has a line left; takes it. */
  #hasLine(): boolean {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#windowStartMs >= WINDOW_MS) {
      this.#tell();
      this.#windowStartMs = nowMs;
      this.#lines = 0;
    }
    this.#lines += 1;
    return this.#lines <= MAX_LINES;
  }

  #leaveOut(code: string, remote: string): void {
    if (this.#leftOut === 0) this.#tellAfter(this.#windowStartMs + WINDOW_MS - this.#clock.monotonicMs());
    this.#leftOut += 1;
    this.#byCode.set(code, (this.#byCode.get(code) ?? 0) + 1);
    if (this.#remotes.size < MAX_REMOTES) this.#remotes.add(remote.replace(/:\d+$/, ''));
  }

  #tellAfter(ms: number): void {
    const { signal } = this.#closed;
    this.#clock.sleep(ms, signal).then(
      () => this.#tell(),
      () => undefined, // closed
    );
  }

  #tell(): void {
    if (this.#leftOut === 0) return;
    const [leftOut, byCode, remotes] = [this.#leftOut, Object.fromEntries(this.#byCode), this.#remotes.size];
    this.#leftOut = 0;
    this.#byCode.clear();
    this.#remotes.clear();
    this.#log.warn({ leftOut, byCode, remotes }, 'connections refused');
  }
}
