/**
 * One HTTP exchange: a request, its redirects and proxy, the check of its status, and its body; retried, with a deadline for silence.
 * Every failure names the host that failed.
 */
import { setMaxListeners } from 'node:events';
import { TrainerError } from '../errors.ts';
import { chooseProxy, type Proxy } from './proxy.ts';
import { PassingFailure, toFailure, withRetries, type RetryInit, type Retries } from './retries.ts';
import { notFound } from './storage-errors.ts';

/** Most bytes of an error's body that are read. */
const MAX_ERROR_BYTES = 4_096;
const MAX_SHOWN = 200;
/** Most redirects of one request. */
const MAX_REDIRECTS = 10;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** Headers that belong to one server. */
const SECRET_HEADERS = ['authorization', 'cookie'];

export interface HttpInit extends RetryInit {
  /** Sends one request, without following redirects. Default: Node's fetch, or undici's through a proxy of the environment. */
  readonly fetch?: typeof fetch | undefined;
  /** The variables that name proxies. Default: those of this process. */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
}

/** One attempt of an exchange: aborted if the other side is silent for too long or the caller aborts. It knows who answers. */
export class Attempt {
  readonly signal: AbortSignal;
  readonly #idleMs: number;
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  #timer: NodeJS.Timeout | undefined;
  #wasSilent = false;
  readonly #what: string;
  #host = '';
  #proxy: Proxy | undefined;

  constructor({ policy, what }: Retries, outer: AbortSignal | undefined) {
    this.#idleMs = policy.idleMs;
    this.#what = what;
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

  /** The request goes to this host now. */
  asks(host: string, proxy: Proxy | undefined): void {
    this.#host = host;
    this.#proxy = proxy;
  }

  /** Who answered, for messages: ` (from cdn.example.org, through the proxy …)`. Empty if the name of the work says it. */
  get answeredBy(): string {
    const host = this.#what.includes(this.#host) ? [] : [`from ${this.#host}`];
    const proxy = this.#proxy === undefined ? [] : [`through the proxy ${this.#proxy.name}`];
    const by = [...host, ...proxy].join(', ');
    return by === '' ? '' : ` (${by})`;
  }

  /** The failure of this attempt: silence, if this one aborted it. Errors of connections name the host. */
  reasonOf(thrown: unknown): unknown {
    if (this.#wasSilent) return new PassingFailure(`silence for ${this.#idleMs} ms${this.answeredBy}`, 0, thrown);
    if (this.#outer?.aborted === true) return thrown;
    return toFailure(
      thrown,
      this.#proxy === undefined ? this.#host : `${this.#host} through the proxy ${this.#proxy.name}`,
    );
  }
}

/** Runs attempts until one succeeds. @throws the errors of Retries.failed */
export function exchange<T>(
  retries: Retries,
  signal: AbortSignal | undefined,
  run: (attempt: Attempt) => Promise<T>,
): Promise<T> {
  return withRetries(retries, async () => {
    const attempt = new Attempt(retries, signal);
    try {
      return await run(attempt);
    } catch (error) {
      throw attempt.reasonOf(error);
    } finally {
      attempt.end();
    }
  });
}

/** Sends one request, through the proxy of the environment if it has one. Redirects are answers. */
export async function sendOnce(request: Request, init: HttpInit, attempt: Attempt): Promise<Response> {
  const url = new URL(request.url);
  const proxy = chooseProxy(url, init.environment ?? process.env);
  attempt.asks(url.host, proxy);
  if (init.fetch === undefined && proxy !== undefined) {
    const { fetchThroughProxy } = await import('./proxy-fetch.ts');
    return fetchThroughProxy(request, proxy, attempt.signal);
  }
  return (init.fetch ?? fetch)(request, { signal: attempt.signal, redirect: 'manual' });
}

/**
 * Sends a request without a body and follows its redirects. Another origin does not receive Authorization and cookies.
 * @throws STORAGE_UNAVAILABLE for a redirect to nowhere; errors of fetch
 */
export async function send(first: Request, init: HttpInit, attempt: Attempt): Promise<Response> {
  let request = first;
  for (let numRedirects = 0; ; numRedirects++) {
    const response = await sendOnce(request, init, attempt);
    const location = REDIRECTS.has(response.status) ? response.headers.get('location') : null;
    if (location === null) return response;
    await response.body?.cancel();
    const from = new URL(request.url);
    const to = URL.canParse(location, from.href) ? new URL(location, from) : undefined;
    if (to === undefined || !['http:', 'https:'].includes(to.protocol) || numRedirects === MAX_REDIRECTS)
      throw new TrainerError(
        'STORAGE_UNAVAILABLE',
        numRedirects === MAX_REDIRECTS
          ? `${from.host} redirects again after ${MAX_REDIRECTS} redirects`
          : `${from.host} redirects (${response.status}) to something that is not an http: or https: URL`,
      );
    to.username = ''; // a login in a redirect is not ours
    to.password = '';
    const headers = new Headers(request.headers);
    if (to.origin !== from.origin) for (const name of SECRET_HEADERS) headers.delete(name);
    request = new Request(to, { method: request.method, headers });
  }
}

/**
 * Accepts a response with status 2xx.
 * @param place for messages
 * @param accepted other statuses that the caller handles
 * @throws PassingFailure for 408, 425, 429, 5xx; STORAGE_NOT_FOUND, STORAGE_DENIED, STORAGE_CHANGED, STORAGE_UNAVAILABLE
 */
export async function checkStatus(
  response: Response,
  place: string,
  attempt: Attempt,
  accepted: readonly number[] = [],
): Promise<void> {
  const { status } = response;
  if (response.ok || accepted.includes(status)) return;
  const said = await errorText(response);
  const answer = `${place} answers ${status}${attempt.answeredBy}${said === '' ? '' : `: ${said}`}`;
  if (status === 408 || status === 425 || status === 429 || status >= 500)
    throw new PassingFailure(
      `${status}${attempt.answeredBy}${said === '' ? '' : `: ${said}`}`,
      retryAfterMs(response.headers),
    );
  if (status === 404 || status === 410) throw notFound(place, `${said === '' ? status : said}${attempt.answeredBy}`);
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
  attempt: Attempt,
): Promise<Buffer<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of bodyOf(response)) {
    attempt.waiting();
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
