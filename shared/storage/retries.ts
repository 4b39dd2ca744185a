/**
 * The one retry policy of all storage: back-off with full jitter, Retry-After, and a deadline.
 *
 * Definition: the deadline starts at the first failure after the last success. So a stream that makes progress may break any number of
 * times. Transient failures are retried: 408, 425, 429, 5xx, broken or refused connections, silence. Permanent ones are not: 401, 403,
 * 404, 412, …
 * Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter"); RFC 9110, 10.2.3.
 */
import { throwIfAborted } from '../abort.ts';
import { systemClock, type Clock } from '../clock.ts';
import { toTrainerError, TrainerError } from '../errors.ts';

export interface RetryPolicy {
  /** Time without any success after which the work fails, ms. */
  readonly deadlineMs: number;
  /** Time without a byte after which an attempt fails, ms. */
  readonly idleMs: number;
  /** Longest first wait, ms; doubles with each failure up to `maxWaitMs`. */
  readonly firstWaitMs: number;
  readonly maxWaitMs: number;
}

export const RETRY_POLICY: RetryPolicy = { deadlineMs: 600_000, idleMs: 30_000, firstWaitMs: 250, maxWaitMs: 15_000 };

export interface RetryNotice {
  /** The work, e.g. `reading s3://bucket/key`. */
  readonly what: string;
  /** Failures in a row, from 1. */
  readonly attempt: number;
  readonly waitMs: number;
  readonly reason: string;
}

/** `reading s3://bucket/key: HTTP 503; attempt 2, the next in 0.8 s`. */
export function formatRetry({ what, attempt, waitMs, reason }: RetryNotice): string {
  return `${what}: ${reason}; attempt ${attempt}, the next in ${(waitMs / 1000).toFixed(1)} s`;
}

export interface RetryInit {
  readonly retry?: Partial<RetryPolicy> | undefined;
  /** Called before each wait, for a log line. */
  readonly onRetry?: ((notice: RetryNotice) => void) | undefined;
  readonly clock?: Clock | undefined;
  /** From 0 to 1; default Math.random. */
  readonly random?: (() => number) | undefined;
}

/** A transient failure. */
export class PassingFailure extends TrainerError {
  readonly retryAfterMs: number;

  constructor(reason: string, retryAfterMs = 0, cause?: unknown) {
    super('STORAGE_UNAVAILABLE', reason, { retryable: true, cause });
    this.retryAfterMs = retryAfterMs;
  }
}

export class Retries {
  readonly policy: RetryPolicy;
  /** The work, for messages. */
  readonly what: string;
  readonly #init: RetryInit;
  readonly #clock: Clock;
  readonly #signal: AbortSignal | undefined;
  #numFailures = 0;
  #firstFailureMs = 0;

  /** @param what the work, for messages: `reading https://…` */
  constructor(what: string, init: RetryInit, signal?: AbortSignal) {
    this.policy = { ...RETRY_POLICY, ...init.retry };
    this.what = what;
    this.#init = init;
    this.#clock = init.clock ?? systemClock;
    this.#signal = signal;
  }

  /** Reports progress: the next failure counts as the first one. */
  succeeded(): void {
    this.#numFailures = 0;
  }

  /**
   * Waits until the next attempt.
   * @throws the failure itself if it is permanent; STORAGE_UNAVAILABLE past the deadline; ABORTED
   */
  async failed(thrown: unknown): Promise<void> {
    throwIfAborted(this.#signal, this.what);
    const failure = toFailure(thrown);
    if (!(failure instanceof PassingFailure)) throw failure;
    const { deadlineMs, firstWaitMs, maxWaitMs } = this.policy;
    const nowMs = this.#clock.monotonicMs();
    if (this.#numFailures === 0) this.#firstFailureMs = nowMs;
    this.#numFailures += 1;
    const leftMs = this.#firstFailureMs + deadlineMs - nowMs;
    if (leftMs <= 0 || failure.retryAfterMs > leftMs) throw this.#givenUp(failure, deadlineMs);
    const jitterMs =
      (this.#init.random ?? Math.random)() * Math.min(maxWaitMs, firstWaitMs * 2 ** (this.#numFailures - 1));
    const waitMs = Math.min(leftMs, Math.max(failure.retryAfterMs, jitterMs));
    this.#init.onRetry?.({ what: this.what, attempt: this.#numFailures, waitMs, reason: failure.message });
    await this.#clock.sleep(waitMs, this.#signal);
  }

  #givenUp(failure: PassingFailure, deadlineMs: number): TrainerError {
    const asked = failure.retryAfterMs > 0 ? `, which asks to wait ${failure.retryAfterMs} ms` : '';
    return new TrainerError(
      'STORAGE_UNAVAILABLE',
      `${this.what}: no success after ${this.#numFailures} attempt(s); last: ${failure.message}${asked}; ` +
        `given up by the deadline of ${deadlineMs} ms; start again when it answers`,
      { retryable: true, cause: failure },
    );
  }
}

/** Runs `attempt` until it succeeds. @throws the errors of Retries.failed */
export async function withRetries<T>(retries: Retries, attempt: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      await retries.failed(error);
    }
  }
}

/** Codes of transient failures of a connection; all others (certificates, ERR_…) are permanent. */
const PASSING_CODE = /^(E[A-Z]+|UND_ERR_.*)$/u;
/** Codes of TLS for a certificate that no known authority has signed. */
const CERTIFICATE_CODE = /^(SELF_SIGNED_CERT|DEPTH_ZERO_SELF_SIGNED|UNABLE_TO_(GET|VERIFY))/u;

/**
 * The failure of an attempt: a PassingFailure if it is transient.
 * @param host the other side of its connection, if known
 */
export function toFailure(thrown: unknown, host?: string): TrainerError {
  if (thrown instanceof TrainerError) return thrown;
  const connection = host === undefined || host === '' ? 'the connection' : `the connection to ${host}`;
  const code = connectionCode(thrown);
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  if (code === undefined) {
    // If a body ends early, undici throws "terminated" or "other side closed" without a code.
    if (thrown instanceof TypeError) return new PassingFailure(`${connection} broke: ${message}`, 0, thrown);
    return toTrainerError(thrown);
  }
  if (PASSING_CODE.test(code)) return new PassingFailure(`${connection} broke: ${code}`, 0, thrown);
  const cure = CERTIFICATE_CODE.test(code)
    ? '; if it is of your own authority, name its file in NODE_EXTRA_CA_CERTS'
    : '';
  return new TrainerError('STORAGE_UNAVAILABLE', `${connection} cannot be made: ${message} (${code})${cure}`, {
    cause: thrown,
  });
}

/** The system's or undici's code, of the error or of its cause. */
function connectionCode(thrown: unknown): string | undefined {
  for (let error: unknown = thrown; error instanceof Error; error = error.cause) {
    if (error instanceof AggregateError && error.errors.length > 0) {
      const code = connectionCode(error.errors[0]);
      if (code !== undefined) return code;
    }
    if ('code' in error && typeof error.code === 'string') return error.code;
  }
  return undefined;
}
