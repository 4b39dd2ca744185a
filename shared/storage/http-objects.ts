/**
 * Reads an object over HTTP: size, ranges, streams that resume after a broken connection. Web servers, S3 and a hub use it.
 *
 * Assumptions: the body is the object's own bytes (no Content-Encoding); a server that ignores Range sends the object from its
 * start. The version is the ETag, else Last-Modified; changes of an object with neither are not detected.
 */
import { TrainerError } from '../errors.ts';
import { Attempt, bodyOf, checkStatus, exchange, type HttpInit } from './http-exchange.ts';
import { PassingFailure, Retries } from './retries.ts';
import { changed, truncated } from './storage-errors.ts';
import type { ObjectFacts, StreamOptions } from './storage.ts';

const UNVERSIONED = 'unversioned';
const ETAG = 'etag:';

/** One object of a server, and how to request it. */
export interface HttpObject {
  /** For messages, without credentials. */
  readonly place: string;
  /**
   * The bytes of this address are fixed, whatever ETag a server sends with them: those of a commit, checked by their hash. Servers of a
   * content delivery network differ in their ETags. So a stream may resume at another one.
   */
  readonly isImmutable?: boolean;
  /** Sends a request with the given headers, signed if needed; called for each attempt. */
  send(method: 'GET' | 'HEAD', headers: Readonly<Record<string, string>>, attempt: Attempt): Promise<Response>;
  /** The error for an answer that refuses, if the server says more than its status. */
  refusalOf?(response: Response, attempt: Attempt): TrainerError | undefined;
}

/** @throws as Storage.head */
export async function headObject(object: HttpObject, init: HttpInit, signal?: AbortSignal): Promise<ObjectFacts> {
  const retries = new Retries(`looking at ${object.place}`, init, signal);
  const ask = (method: 'GET' | 'HEAD') =>
    exchange(retries, signal, async (attempt) => {
      const range: Record<string, string> = method === 'GET' ? { range: 'bytes=0-0' } : {};
      const response = await send(object, method, range, attempt);
      // Some servers and all URLs that are signed for GET refuse HEAD. And an answer to HEAD has no body that says why.
      const isRefused = method === 'HEAD' && [400, 403, 405, 501].includes(response.status);
      if (isRefused) {
        await response.body?.cancel();
        return undefined;
      }
      await checkStatus(response, object.place, attempt, method === 'HEAD' ? [] : [416]);
      await response.body?.cancel();
      const bytes = sizeOf(response);
      return bytes === undefined ? undefined : { bytes, version: versionOf(response.headers) };
    });
  const facts = (await ask('HEAD')) ?? (await ask('GET'));
  if (facts !== undefined) return facts;
  throw new TrainerError(
    'STORAGE_UNAVAILABLE',
    `${object.place}: the server does not say how large it is (no Content-Length), so ranges of it cannot be read; download it and give the path of the file`,
  );
}

/** @throws as Storage.readRange */
export async function readObjectRange(
  object: HttpObject,
  from: number,
  length: number,
  options: Pick<StreamOptions, 'version' | 'signal'>,
  init: HttpInit,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let at = 0;
  for await (const chunk of streamObject(object, { ...options, from, to: from + length }, init)) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}

/** @throws as Storage.stream */
export async function* streamObject(
  object: HttpObject,
  { from = 0, to, version, signal }: StreamOptions,
  init: HttpInit,
): AsyncGenerator<Uint8Array> {
  const retries = new Retries(`reading ${object.place}`, init, signal);
  let at = from;
  let known = object.isImmutable === true ? UNVERSIONED : version;
  while (to === undefined || at < to) {
    const attempt = new Attempt(retries, signal);
    try {
      const opened = await openAt(object, { at, to, known }, attempt);
      if (object.isImmutable !== true) known = opened.version;
      let { skip } = opened;
      for await (const chunk of bodyOf(opened.response)) {
        const start = Math.min(skip, chunk.length);
        skip -= start;
        const part = chunk.subarray(start, to === undefined ? undefined : start + to - at);
        at += part.length;
        if (part.length > 0) {
          retries.succeeded();
          attempt.stop(); // the consumer may be slow
          yield part;
        }
        if (at === to) return;
        attempt.waiting();
      }
      if (opened.end !== undefined && at < opened.end)
        throw new PassingFailure(`the body ended at byte ${at} of ${opened.end}`);
      if (to !== undefined && at < to) throw truncated(object.place, to, at);
      return;
    } catch (error) {
      await retries.failed(attempt.reasonOf(error));
    } finally {
      attempt.end();
    }
  }
}

interface Opened {
  readonly response: Response;
  /** Bytes of the body before the requested ones. */
  readonly skip: number;
  /** Position in the object behind the last byte of the body; undefined if the server does not send it. */
  readonly end: number | undefined;
  readonly version: string;
}

async function openAt(
  object: HttpObject,
  { at, to, known }: { readonly at: number; readonly to: number | undefined; readonly known: string | undefined },
  attempt: Attempt,
): Promise<Opened> {
  const headers: Record<string, string> = {};
  if (at > 0 || to !== undefined) headers['range'] = `bytes=${at}-${to === undefined ? '' : to - 1}`;
  if (known?.startsWith(ETAG) === true) headers['if-match'] = known.slice(ETAG.length);
  const response = await send(object, 'GET', headers, attempt);
  await checkStatus(response, object.place, attempt, [416]);
  const version = versionOf(response.headers);
  if (response.status === 416) {
    await response.body?.cancel();
    const bytes = sizeOf(response) ?? at;
    if (to !== undefined || bytes < at) throw truncated(object.place, to ?? at, bytes);
    return { response: new Response(null), skip: 0, end: undefined, version: known ?? version };
  }
  if (known !== undefined && known !== version && known !== UNVERSIONED) {
    await response.body?.cancel();
    throw changed(object.place, known, version);
  }
  const isPart = response.status === 206;
  const start = isPart ? Number(/^bytes (\d+)-/u.exec(response.headers.get('content-range') ?? '')?.[1] ?? at) : 0;
  if (start > at) {
    await response.body?.cancel();
    throw new TrainerError(
      'STORAGE_UNAVAILABLE',
      `${object.place}: asked for byte ${at}, the server sends from byte ${start}`,
    );
  }
  const bytes = sizeOf(response);
  const end = bytes === undefined ? undefined : Math.min(bytes, to ?? bytes);
  return { response, skip: at - start, end, version };
}

async function send(
  object: HttpObject,
  method: 'GET' | 'HEAD',
  headers: Readonly<Record<string, string>>,
  attempt: Attempt,
): Promise<Response> {
  const response = await object.send(method, { 'accept-encoding': 'identity', ...headers }, attempt);
  const refusal = response.ok || method === 'HEAD' ? undefined : object.refusalOf?.(response, attempt);
  if (refusal !== undefined) {
    await response.body?.cancel();
    throw refusal;
  }
  const encoding = response.headers.get('content-encoding');
  if (response.ok && encoding !== null && encoding !== 'identity') {
    await response.body?.cancel();
    throw new TrainerError(
      'CONFIG_INVALID',
      `${object.place} is served with Content-Encoding ${encoding}, so ranges of it cannot be read; download it and give the path of the file, or store it without that header`,
    );
  }
  return response;
}

/** Size of the whole object, if the response has it. */
function sizeOf({ headers, status }: Response): number | undefined {
  const text =
    status === 206 || status === 416
      ? /\/(\d+)$/u.exec(headers.get('content-range') ?? '')?.[1]
      : (headers.get('content-length') ?? undefined);
  return text === undefined || !/^\d+$/u.test(text) ? undefined : Number(text);
}

/** `etag:"…"`, `modified:…` or `unversioned`. A weak ETag counts as a strong one: bodies are not encoded here. */
function versionOf(headers: Headers): string {
  const etag = headers.get('etag');
  if (etag !== null) return `etag:${etag.replace(/^W\//u, '')}`;
  const modified = headers.get('last-modified');
  return modified === null ? UNVERSIONED : `modified:${modified}`;
}
