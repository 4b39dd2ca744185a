/**
 * Storage in an S3 bucket, or on a server with the same protocol (MinIO, R2, GCS's XML API, Ceph).
 *
 * aws4fetch signs each attempt of a request (Signature V4); without credentials requests are anonymous. One request puts an object: at
 * most 5 GiB. The version is the ETag.
 *
 * A bucket of another region than the configured one is read and written in its own: S3 refuses the first request and names the region in
 * `x-amz-bucket-region` (also in an answer without a body). Zero-byte keys that consoles and Hadoop make for folders are no objects.
 */
import { AwsV4Signer } from 'aws4fetch';
import { TrainerError } from '../errors.ts';
import { checkStatus, exchange, readBody, sendOnce, type Attempt, type HttpInit } from './http-exchange.ts';
import { headObject, readObjectRange, streamObject, type HttpObject } from './http-objects.ts';
import { Retries } from './retries.ts';
import { nameLocation } from './location.ts';
import { parseListing } from './s3-listing.ts';
import { amazonEndpoint, isRegion, type S3Options } from './s3-options.ts';
import type { ListedObject, ObjectFacts, Storage, StreamOptions } from './storage.ts';

/** Most bytes of a page of a listing: 1,000 keys of 1 KiB and the XML around them. */
const MAX_LISTING_BYTES = 8 * 1024 * 1024;
/** Most buckets of other regions whose region is remembered. */
const MAX_REGIONS = 1_024;

/** Region by endpoint and bucket, where it is not the configured one. */
const regionsOfBuckets = new Map<string, string>();

interface S3Request {
  readonly method: 'GET' | 'HEAD' | 'PUT' | 'DELETE';
  /** Full key in the bucket; the empty one is the bucket. */
  readonly key: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
}

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
      const query = {
        'list-type': '2',
        prefix: fullPrefix,
        'encoding-type': 'url',
        ...(token === undefined ? {} : { 'continuation-token': token }),
      };
      const place = `s3://${this.#bucket}/${fullPrefix}`;
      const text = await this.#exchange(`listing ${place}`, { method: 'GET', key: '', query }, signal);
      const page = parseListing(text, place);
      for (const { key, bytes, version } of page.objects.filter((object) => !isFolderMarker(object)))
        yield { key: this.#root === '' ? key : key.slice(this.#root.length + 1), bytes, version };
      token = page.nextToken;
    } while (token !== undefined);
  }

  async put(key: string, body: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.#exchange(`writing ${this.placeOf(key)}`, { method: 'PUT', key: this.#keyOf(key), body }, signal);
  }

  async delete(key: string, signal?: AbortSignal): Promise<void> {
    await this.#exchange(`removing ${this.placeOf(key)}`, { method: 'DELETE', key: this.#keyOf(key) }, signal);
  }

  #keyOf(key: string): string {
    return [this.#root, key].filter((part) => part !== '').join('/');
  }

  /** @param key full key in the bucket; the empty one is the bucket */
  #urlOf(key: string): URL {
    const { endpoint, pathStyle } = this.#options;
    const url = new URL(endpoint ?? amazonEndpoint(this.#region));
    const isInPath = pathStyle || !isHostLabel(this.#bucket);
    if (!isInPath) url.host = `${this.#bucket}.${url.host}`;
    const encoded = key.split('/').map(encodeKeyPart);
    url.pathname = [url.pathname.replace(/\/$/u, ''), ...(isInPath ? [this.#bucket] : []), ...encoded].join('/');
    return url;
  }

  /** The bucket's, where a server has named it. */
  get #region(): string {
    return regionsOfBuckets.get(this.#regionKey) ?? this.#options.region;
  }

  get #regionKey(): string {
    return `${this.#options.endpoint ?? ''} ${this.#bucket}`;
  }

  #object(key: string): HttpObject {
    const fullKey = this.#keyOf(key);
    return {
      place: this.placeOf(key),
      send: (method, headers, attempt) => this.#send(attempt, { method, key: fullKey, headers }),
    };
  }

  /** Sends it again, once, if the bucket is in another region. */
  async #send(attempt: Attempt, { method, key, query, headers = {}, body }: S3Request): Promise<Response> {
    const ask = async () => {
      const url = this.#urlOf(key);
      if (query !== undefined) url.search = new URLSearchParams(query).toString();
      return sendOnce(await this.#sign(method, url, headers, body), this.#init, attempt);
    };
    const asked = this.#region;
    const response = await ask();
    const region = response.headers.get('x-amz-bucket-region');
    const isRefused = [301, 307, 308, 400, 403].includes(response.status);
    if (isRefused && region !== null && region !== asked && isRegion(region)) {
      await response.body?.cancel();
      if (regionsOfBuckets.size >= MAX_REGIONS) regionsOfBuckets.clear();
      regionsOfBuckets.set(this.#regionKey, region);
      const again = await ask();
      const other = again.headers.get('x-amz-bucket-region');
      if (again.ok || other === null || other === region) return again;
      await again.body?.cancel();
      regionsOfBuckets.delete(this.#regionKey);
      throw new TrainerError(
        'STORAGE_UNAVAILABLE',
        `bucket ${this.#bucket}: asked in region ${asked}, S3 names ${region}, and asked there it names ${other}${attempt.answeredBy}; set AWS_REGION to the bucket's region`,
      );
    }
    const isRedirect = response.status >= 300 && response.status < 400 && response.status !== 304;
    if (!isRedirect) return response;
    await response.body?.cancel();
    const location = response.headers.get('location');
    const to = location !== null && URL.canParse(location) ? ` to ${new URL(location).origin}` : '';
    throw new TrainerError(
      'STORAGE_UNAVAILABLE',
      `bucket ${this.#bucket} is redirected (${response.status})${to}${attempt.answeredBy}, and a signed request cannot follow: ` +
        'set AWS_ENDPOINT_URL to the address of its server, and AWS_REGION to its region',
    );
  }

  /** A request with a short answer. @returns its text */
  async #exchange(what: string, request: S3Request, signal: AbortSignal | undefined): Promise<string> {
    return exchange(new Retries(what, this.#init, signal), signal, async (attempt) => {
      const response = await this.#send(attempt, request);
      const place = what.slice(what.indexOf(' ') + 1);
      await checkStatus(response, place, attempt, request.method === 'DELETE' ? [404] : []);
      return String(await readBody(response, MAX_LISTING_BYTES, `${what}: the answer`, attempt));
    });
  }

  async #sign(
    method: string,
    url: URL,
    headers: Readonly<Record<string, string>>,
    body?: Uint8Array,
  ): Promise<Request> {
    const { credentials } = this.#options;
    const payload = body === undefined ? {} : { body: Uint8Array.from(body) };
    if (credentials === undefined) return new Request(url, { method, headers, ...payload });
    const signer = new AwsV4Signer({
      method,
      url: url.href,
      service: 's3',
      region: this.#region,
      ...credentials,
      ...payload,
    });
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

/** The certificates of `*.s3.…` hold for one label; names of old buckets may also have large letters or `_`. */
function isHostLabel(bucket: string): boolean {
  return /^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/u.test(bucket);
}

/** `folder/` of consoles and Hadoop's S3A, `folder_$folder$` of its older connectors. */
function isFolderMarker({ key, bytes }: ListedObject): boolean {
  return bytes === 0 && (key.endsWith('/') || key.endsWith('_$folder$'));
}
