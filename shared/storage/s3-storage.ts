/**
 * Storage in an S3 bucket, or on a server with the same protocol (MinIO, R2, GCS's XML API, Ceph).
 *
 * aws4fetch signs each attempt of a request (Signature V4); without credentials requests are anonymous. One request puts an object: at
 * most 5 GiB. The version is the ETag.
 */
import { AwsV4Signer } from 'aws4fetch';
import { TrainerError } from '../errors.ts';
import { checkStatus, exchange, readBody } from './http-exchange.ts';
import { headObject, readObjectRange, streamObject, type HttpInit, type HttpObject } from './http-objects.ts';
import { Retries } from './retries.ts';
import { nameLocation } from './location.ts';
import { parseListing } from './s3-listing.ts';
import type { S3Options } from './s3-options.ts';
import type { ListedObject, ObjectFacts, Storage, StreamOptions } from './storage.ts';

/** Most bytes of a page of a listing: 1,000 keys of 1 KiB and the XML around them. */
const MAX_LISTING_BYTES = 8 * 1024 * 1024;

export class S3Storage implements Storage {
  readonly location: string;
  readonly #bucket: string;
  readonly #root: string;
  readonly #options: S3Options;
  readonly #init: HttpInit;

  /** @param location `s3://bucket` or `s3://bucket/prefix` @throws CONFIG_INVALID */
  constructor(location: string, options: S3Options, init: HttpInit = {}) {
    const parsed = /^s3:\/\/([a-z0-9][a-z0-9._-]+)(?:\/(.*))?$/iu.exec(location);
    if (parsed === null)
      throw new TrainerError('CONFIG_INVALID', `${nameLocation(location)}: expected s3://bucket/key`);
    this.location = location;
    this.#bucket = parsed[1]!;
    this.#root = (parsed[2] ?? '').replace(/\/$/u, '');
    this.#options = options;
    this.#init = init;
  }

  placeOf(key: string): string {
    return `s3://${this.#bucket}/${this.#keyOf(key)}`;
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

  async *list(prefix: string, signal?: AbortSignal): AsyncGenerator<ListedObject> {
    const fullPrefix = this.#root === '' ? prefix : `${this.#root}/${prefix}`;
    let token: string | undefined;
    do {
      const url = this.#urlOf('');
      url.search = new URLSearchParams({
        'list-type': '2',
        prefix: fullPrefix,
        'encoding-type': 'url',
        ...(token === undefined ? {} : { 'continuation-token': token }),
      }).toString();
      const text = await this.#exchange('GET', url, `listing s3://${this.#bucket}/${fullPrefix}`, undefined, signal);
      const page = parseListing(text, `s3://${this.#bucket}/${fullPrefix}`);
      for (const { key, bytes, version } of page.objects)
        yield { key: this.#root === '' ? key : key.slice(this.#root.length + 1), bytes, version };
      token = page.nextToken;
    } while (token !== undefined);
  }

  async put(key: string, body: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.#exchange('PUT', this.#urlOf(this.#keyOf(key)), `writing ${this.placeOf(key)}`, body, signal);
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    await this.#exchange('DELETE', this.#urlOf(this.#keyOf(key)), `removing ${this.placeOf(key)}`, undefined, signal);
  }

  #keyOf(key: string): string {
    return [this.#root, key].filter((part) => part !== '').join('/');
  }

  /** @param key full key in the bucket; the empty one is the bucket */
  #urlOf(key: string): URL {
    const { endpoint, region, pathStyle } = this.#options;
    const url = new URL(endpoint ?? `https://s3.${region}.amazonaws.com`);
    if (!pathStyle) url.host = `${this.#bucket}.${url.host}`;
    const encoded = key.split('/').map(encodeKeyPart);
    url.pathname = [url.pathname.replace(/\/$/u, ''), ...(pathStyle ? [this.#bucket] : []), ...encoded].join('/');
    return url;
  }

  #object(key: string): HttpObject {
    const url = this.#urlOf(this.#keyOf(key));
    return { place: this.placeOf(key), request: (method, headers) => this.#sign(method, url, headers) };
  }

  /** A request with a short answer. @returns its text */
  async #exchange(
    method: 'GET' | 'PUT' | 'DELETE',
    url: URL,
    what: string,
    body: Uint8Array | undefined,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    return exchange(new Retries(what, this.#init, signal), signal, async (watch) => {
      const request = await this.#sign(method, url, {}, body);
      const response = await (this.#init.fetch ?? fetch)(request, { signal: watch.signal });
      await checkStatus(response, what.slice(what.indexOf(' ') + 1), method === 'DELETE' ? [404] : []);
      return String(await readBody(response, MAX_LISTING_BYTES, `${what}: the answer`, watch));
    });
  }

  async #sign(
    method: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    body?: Uint8Array,
  ): Promise<Request> {
    const { credentials, region } = this.#options;
    const payload = body === undefined ? {} : { body: Uint8Array.from(body) };
    if (credentials === undefined) return new Request(url, { method, headers, ...payload });
    const signer = new AwsV4Signer({ method, url: url.href, service: 's3', region, ...credentials, ...payload });
    const signed = await signer.sign();
    // Range, If-Match and Accept-Encoding are not signed: proxies may change the last one.
    for (const [name, value] of Object.entries(headers)) signed.headers.set(name, value);
    return new Request(signed.url, { method: signed.method, headers: signed.headers, ...payload });
  }
}

/** Encodes for the signature: also the characters that encodeURIComponent leaves as they are. */
function encodeKeyPart(part: string): string {
  return encodeURIComponent(part).replace(/[!'()*]/gu, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}
