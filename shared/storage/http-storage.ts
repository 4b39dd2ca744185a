/** Storage on a web server: read only. */
import { TrainerError } from '../errors.ts';
import { headObject, readObjectRange, streamObject, type HttpObject } from './http-objects.ts';
import { nameLocation } from './location.ts';
import { send, type Attempt, type HttpInit } from './http-exchange.ts';
import type { ListedObject, ObjectFacts, Storage, StreamOptions } from './storage.ts';

export interface HttpStorageInit extends HttpInit {
  /** Headers of every request, e.g. Authorization; a redirect does not send them to another origin. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** As of HttpObject. */
  readonly isImmutable?: boolean | undefined;
  readonly refusalOf?: ((response: Response, attempt: Attempt) => TrainerError | undefined) | undefined;
}

export class HttpStorage implements Storage {
  readonly location: string;
  readonly #url: URL;
  readonly #init: HttpStorageInit;

  /** @throws CONFIG_INVALID if it is not a URL */
  constructor(url: string, init: HttpStorageInit = {}) {
    if (!URL.canParse(url)) throw new TrainerError('CONFIG_INVALID', `${nameLocation(url)} is not a URL`);
    this.#url = new URL(url);
    this.#init = init;
    this.location = nameLocation(this.#url);
  }

  placeOf(key: string): string {
    return nameLocation(this.#urlOf(key));
  }

  head(key: string, signal?: AbortSignal): Promise<ObjectFacts> {
    return headObject(this.#object(key), this.#init, signal);
  }

  readRange(key: string, from: number, length: number, signal?: AbortSignal, version?: string): Promise<Uint8Array> {
    return readObjectRange(this.#object(key), from, length, { version, signal }, this.#init);
  }

  stream(key: string, options: StreamOptions = {}): AsyncIterable<Uint8Array> {
    return streamObject(this.#object(key), options, this.#init);
  }

  list(): AsyncIterable<ListedObject> {
    throw new TrainerError('CONFIG_INVALID', `${this.location}: a web server cannot be listed; name the files`);
  }

  put(): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  delete(): Promise<void> {
    return Promise.reject(this.#readOnly());
  }

  #readOnly(): TrainerError {
    return new TrainerError('CONFIG_INVALID', `${this.location}: a web server is only read; give a path or an s3: URL`);
  }

  #object(key: string): HttpObject {
    const url = this.#urlOf(key);
    const { headers: extra = {}, isImmutable = false, refusalOf } = this.#init;
    // fetch refuses a user and password in the URL: send them as a header.
    const login =
      url.username === ''
        ? {}
        : { authorization: `Basic ${btoa(decodeURIComponent(`${url.username}:${url.password}`))}` };
    url.username = '';
    url.password = '';
    return {
      place: nameLocation(url),
      isImmutable,
      ...(refusalOf === undefined ? {} : { refusalOf }),
      send: (method, headers, attempt) =>
        send(new Request(url, { method, headers: { ...login, ...extra, ...headers } }), this.#init, attempt),
    };
  }

  #urlOf(key: string): URL {
    const url = new URL(this.#url);
    if (key === '') return url;
    const encoded = key.split('/').map(encodeURIComponent).join('/');
    url.pathname = `${url.pathname.replace(/\/$/u, '')}/${encoded}`;
    return url;
  }
}
