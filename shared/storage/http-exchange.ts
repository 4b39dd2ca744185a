/** One HTTP exchange: a request, the check of its status, and its body; retried, with a deadline for silence. */
import { setMaxListeners } from 'node:events';
import { TrainerError } from '../errors.ts';
import { PassingFailure, withRetries, type Retries } from './retries.ts';
import { notFound } from './storage-errors.ts';

/** Most bytes of an error's body that are read. */
const MAX_ERROR_BYTES = 4_096;
const MAX_SHOWN = 200;

/** Aborts an attempt that is silent for too long, or whose caller aborts. */
export class SilenceWatch {
  readonly signal: AbortSignal;
  readonly #idleMs: number;
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  #timer: NodeJS.Timeout | undefined;
  #wasSilent = false;

  constructor(idleMs: number, outer: AbortSignal | undefined) {
    this.#idleMs = idleMs;
    this.#outer = outer;
    this.signal = this.#controller.signal;
    // Not AbortSignal.any: its result lives as long as its longest-lived signal, here that of the run.
    if (outer !== undefined) {
      setMaxListeners(0, outer); // one for each read under way; other code bounds their number
      outer.addEventListener('abort', this.#callOff);
      if (outer.aborted) this.#callOff();
    }
    this.waiting();
  }

  /** Starts the time within which the other side must send a byte. */
  waiting(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#wasSilent = true;
      this.#controller.abort();
    }, this.#idleMs);
  }

  /** Stops the time: a byte came, or none is expected. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  /** The attempt is over. */
  end(): void {
    this.stop();
    this.#outer?.removeEventListener('abort', this.#callOff);
  }

  readonly #callOff = (): void => this.#controller.abort();

  /** The failure of an attempt: silence, if this watch aborted it. */
  reasonOf(thrown: unknown): unknown {
    return this.#wasSilent ? new PassingFailure(`silence for ${this.#idleMs} ms`, 0, thrown) : thrown;
  }
}

/** Runs attempts, each with its own watch, until one succeeds. @throws the errors of Retries.failed */
export function exchange<T>(
  retries: Retries,
  signal: AbortSignal | undefined,
  run: (watch: SilenceWatch) => Promise<T>,
): Promise<T> {
  return withRetries(retries, async () => {
    const watch = new SilenceWatch(retries.policy.idleMs, signal);
    try {
      return await run(watch);
    } catch (error) {
      throw watch.reasonOf(error);
    } finally {
      watch.end();
    }
  });
}

/**
 * Accepts a response with status 2xx.
 * @param place for messages
 * @param accepted other statuses that the caller handles
 * @throws PassingFailure for 408, 425, 429, 5xx; STORAGE_NOT_FOUND, STORAGE_DENIED, STORAGE_CHANGED, STORAGE_UNAVAILABLE
 */
export async function checkStatus(response: Response, place: string, accepted: readonly number[] = []): Promise<void> {
  const { status } = response;
  if (response.ok || accepted.includes(status)) return;
  const said = await errorText(response);
  const answer = `${place} answers ${status}${said === '' ? '' : `: ${said}`}`;
  if (status === 408 || status === 425 || status === 429 || status >= 500)
    throw new PassingFailure(`${status}${said === '' ? '' : `: ${said}`}`, retryAfterMs(response.headers));
  if (status === 404 || status === 410) throw notFound(place, said === '' ? String(status) : said);
  if (status === 401 || status === 403)
    throw new TrainerError('STORAGE_DENIED', `${answer}; give credentials that may read it`);
  if (status === 412)
    throw new TrainerError(
      'STORAGE_CHANGED',
      `${place} changed while it was being read; start again when it is complete`,
    );
  throw new TrainerError('STORAGE_UNAVAILABLE', `${answer}; expected 200 or 206`);
}

/** The message in an error's body as one line: of XML and JSON the text of the error, of HTML nothing. */
async function errorText(response: Response): Promise<string> {
  const bytes = await readBounded(response).catch(() => new Uint8Array(0));
  const text = new TextDecoder().decode(bytes);
  if (/^\s*<(!doctype|html)/iu.test(text)) return '';
  const [, code] = /<Code>([^<]*)<\/Code>/u.exec(text) ?? [];
  const [, message] =
    /<Message>([^<]*)<\/Message>/u.exec(text) ?? /"(?:error|message)"\s*:\s*"([^"]*)"/u.exec(text) ?? [];
  const said =
    (code ?? message === undefined) ? [code, message].filter((part) => part !== undefined).join(': ') : message;
  return (said === '' ? text : said).replace(/\s+/gu, ' ').trim().slice(0, MAX_SHOWN);
}

async function readBounded(response: Response): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of bodyOf(response)) {
    parts.push(part);
    bytes += part.length;
    if (bytes >= MAX_ERROR_BYTES) break;
  }
  return Buffer.concat(parts).subarray(0, MAX_ERROR_BYTES);
}

/**
 * The whole of a small body.
 * @param what for messages: `an answer`
 * @throws STORAGE_UNAVAILABLE if it is larger than `maxBytes`
 */
export async function readBody(
  response: Response,
  maxBytes: number,
  what: string,
  watch: SilenceWatch,
): Promise<Buffer<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of bodyOf(response)) {
    watch.waiting();
    bytes += part.length;
    if (bytes > maxBytes) throw new TrainerError('STORAGE_UNAVAILABLE', `${what} is larger than ${maxBytes} B`);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The chunks of a body; none without a body. Leaving the loop early closes the connection. */
export function bodyOf(response: Response): AsyncIterable<Uint8Array> {
  return (response.body ?? new Blob([]).stream()) as AsyncIterable<Uint8Array>;
}

/** Retry-After as ms: seconds or a date; 0 without the header. */
export function retryAfterMs(headers: Headers, nowMs = Date.now()): number {
  const value = headers.get('retry-after');
  if (value === null) return 0;
  const waitMs = /^\d+$/u.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - nowMs;
  return Number.isFinite(waitMs) ? Math.max(0, waitMs) : 0;
}
