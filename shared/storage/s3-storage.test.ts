import assert from 'node:assert/strict';
import { createHash, createHmac } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { answer, serve, startFaultyServer, type FaultyServer } from './faulty-server.fixture.ts';
import { openStorage, type StorageOptions } from './open-storage.ts';
import type { RetryNotice } from './retries.ts';
import { parseListing } from './s3-listing.ts';
import { s3OptionsOf, type S3Options } from './s3-options.ts';
import { startS3Server, type S3Server } from './s3-server.fixture.ts';
import { describeStorage, readAll } from './storage-compliance.fixture.ts';

const folder = mkdtempSync(join(tmpdir(), 'exmix-s3-'));
let server: S3Server;
before(async () => {
  server = await startS3Server({ folder, buckets: ['bucket'] });
});
after(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

let numPrefixes = 0;
const open = (options: StorageOptions = {}) =>
  openStorage(`s3://bucket/run-${numPrefixes++}`, { s3: server.options, ...options });

describe('s3 storage', () => {
  describeStorage(() => Promise.resolve(open()));

  // s3rver makes its continuation tokens with DES, which OpenSSL 3 has not: the pages are written here.
  test('lists page after page', async () => {
    const page = (keys: readonly string[], next: string | undefined) =>
      `<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>${String(next !== undefined)}</IsTruncated>${keys
        .map((key) => `<Contents><Key>p/${key}</Key><Size>1</Size><ETag>"e"</ETag></Contents>`)
        .join(
          '',
        )}${next === undefined ? '' : `<NextContinuationToken>${next}</NextContinuationToken>`}</ListBucketResult>`;
    const asked: (string | null)[] = [];
    const fake: typeof fetch = (request) => {
      assert.ok(request instanceof Request);
      const { searchParams } = new URL(request.url);
      assert.equal(searchParams.get('prefix'), 'p/k');
      const token = searchParams.get('continuation-token');
      asked.push(token);
      if (token === null) return Promise.resolve(new Response(page(['k%201', 'k%2B2'], 'a+/=')));
      return Promise.resolve(new Response(token === 'a+/=' ? page(['k3'], 'b') : page(['k4'], undefined)));
    };
    const storage = openStorage('s3://bucket/p', { s3: server.options, fetch: fake });
    const found: string[] = [];
    for await (const { key } of storage.list('k')) found.push(key);
    assert.deepEqual(found, ['k 1', 'k+2', 'k3', 'k4']);
    assert.deepEqual(asked, [null, 'a+/=', 'b']);
  });

  test('wrong keys and a missing bucket fail at once', async () => {
    const wrong: S3Options = { ...server.options, credentials: { accessKeyId: 'WRONG', secretAccessKey: 'wrong' } };
    await assert.rejects(readAll(open({ s3: wrong }).stream('a')), {
      code: 'STORAGE_DENIED',
      message: /InvalidAccessKeyId/,
    });
    await assert.rejects(readAll(openStorage('s3://nowhere/a', { s3: server.options }).stream('')), {
      code: 'STORAGE_NOT_FOUND',
      message: /NoSuchBucket/,
    });
    assert.throws(() => openStorage('s3:///a'), { code: 'CONFIG_INVALID' });
  });

  test('a stream survives a server that stops and starts again on the same port', async () => {
    const body = Buffer.from(Array.from({ length: 3_000_000 }, (_, i) => (i * 31) % 251));
    const notices: RetryNotice[] = [];
    let isDown: () => void = () => undefined;
    const wentDown = new Promise<void>((resolve) => (isDown = resolve));
    const storage = open({
      retry: { firstWaitMs: 20, maxWaitMs: 50 },
      onRetry: (notice) => {
        notices.push(notice);
        if (notices.length === 3) isDown();
      },
    });
    await storage.put('a', body);
    const { version } = await storage.head('a');
    const parts: Uint8Array[] = [];
    const restart = wentDown.then(() => server.start());
    for await (const part of storage.stream('a', { version })) {
      if (parts.length === 0) await server.stop();
      parts.push(part);
    }
    await restart;
    assert.deepEqual(Buffer.concat(parts), body);
    assert.ok(notices.length >= 3);
  });
});

describe('a bucket of another region', () => {
  const credentials = { accessKeyId: 'id', secretAccessKey: 'key' };
  const body = Buffer.from('content');
  const asked: string[] = [];
  const servers: FaultyServer[] = [];
  after(() => Promise.all(servers.map((one) => one.close())));

  /** Like S3, it names the bucket's region in a header, also in answers to HEAD, which have no body. */
  async function startRegional(refusal: number, regionOf: (asked: string) => string): Promise<S3Options> {
    const regional = await startFaultyServer((request, response) => {
      const region = /Credential=id\/\d+\/([^/]+)\/s3/u.exec(request.headers.authorization ?? '')?.[1] ?? '';
      asked.push(`${request.method ?? ''} ${region}`);
      const own = regionOf(region);
      if (region === own) serve(body)(request, response);
      else answer(refusal, { 'x-amz-bucket-region': own })(request, response);
    });
    servers.push(regional);
    return { endpoint: regional.url, region: 'us-east-1', pathStyle: true, credentials };
  }

  for (const refusal of [301, 307, 400, 403])
    test(`is read in its own region after ${refusal}, and remembered`, async () => {
      const s3 = await startRegional(refusal, () => 'eu-west-1');
      asked.length = 0;
      assert.equal((await openStorage('s3://far/a', { s3 }).head('')).bytes, body.length);
      assert.deepEqual(await readAll(openStorage('s3://far/a', { s3 }).stream('')), body);
      await openStorage('s3://far', { s3 }).put('b', body);
      assert.deepEqual(asked, ['HEAD us-east-1', 'HEAD eu-west-1', 'GET eu-west-1', 'PUT eu-west-1']);
    });

  test('that changes with each request is refused with all three', async () => {
    const s3 = await startRegional(400, (region) => (region === 'eu-west-1' ? 'ap-south-1' : 'eu-west-1'));
    await assert.rejects(openStorage('s3://far/a', { s3 }).head(''), {
      code: 'STORAGE_UNAVAILABLE',
      message:
        /bucket far: asked in region us-east-1, S3 names eu-west-1, and asked there it names ap-south-1.*AWS_REGION/,
    });
  });

  test('that is no region is not used in a host name', async () => {
    const s3 = await startRegional(400, () => 'evil.example/');
    await assert.rejects(openStorage('s3://far/a', { s3 }).head(''), { code: 'STORAGE_UNAVAILABLE', message: /400/ });
  });

  test('a redirect to another server says which variable to set', async () => {
    const redirecting = await startFaultyServer(answer(301, { location: 'https://minio.example/bucket/a?secret' }));
    servers.push(redirecting);
    const s3 = { endpoint: redirecting.url, region: 'us-east-1', pathStyle: true, credentials };
    await assert.rejects(openStorage('s3://moved/a', { s3 }).head(''), {
      code: 'STORAGE_UNAVAILABLE',
      message:
        /bucket moved is redirected \(301\) to https:\/\/minio\.example \(from 127\.0\.0\.1:\d+\).*AWS_ENDPOINT_URL/,
    });
  });
});

test('keys that only mark folders are no objects', async () => {
  const storage = open();
  const put = (key: string, text: string) => storage.put(key, Buffer.from(text));
  await put('a.jsonl', 'x');
  await put('empty.jsonl', '');
  await put('sub/b.jsonl', 'x');
  const keys = ['', 'sub/', 'old_$folder$', 'a.jsonl', 'empty.jsonl', 'odd/'];
  const sizes = [0, 0, 0, 1, 0, 7];
  const page = `<ListBucketResult>${keys
    .map((key, i) => `<Contents><Key>p/${key}</Key><Size>${sizes[i]!}</Size><ETag>"e"</ETag></Contents>`)
    .join('')}</ListBucketResult>`;
  const fake: typeof fetch = () => Promise.resolve(new Response(page));
  const listed: string[] = [];
  for await (const { key } of openStorage('s3://bucket/p', { s3: server.options, fetch: fake }).list(''))
    listed.push(key);
  assert.deepEqual(listed, ['a.jsonl', 'empty.jsonl', 'odd/']);
});

/** Signature V4 from its definition, for what the request says it signed; s3rver does not check it. */
async function expectedSignature(request: Request, secret: string): Promise<string> {
  const url = new URL(request.url);
  const authorization = request.headers.get('authorization') ?? '';
  const [, scope, names] = /Credential=[^/]+\/([^,]+), ?SignedHeaders=([^,]+),/u.exec(authorization)!;
  const hmac = (key: string | Buffer, text: string) => createHmac('sha256', key).update(text).digest();
  const sha256 = (text: string | Buffer) => createHash('sha256').update(text).digest('hex');
  const body = Buffer.from(await request.clone().arrayBuffer());
  const payload = request.headers.get('x-amz-content-sha256')!;
  assert.ok(payload === 'UNSIGNED-PAYLOAD' || payload === sha256(body));
  const headers = names!
    .split(';')
    .map((name) => `${name}:${name === 'host' ? url.host : request.headers.get(name)!}\n`);
  const query = [...url.searchParams].map(([key, value]) => `${encode(key)}=${encode(value)}`).sort();
  const path = url.pathname.split('/').map((part) => encode(decodeURIComponent(part)));
  const canonical = [request.method, path.join('/'), query.join('&'), headers.join(''), names, payload].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', request.headers.get('x-amz-date'), scope, sha256(canonical)].join('\n');
  const key = scope!.split('/').reduce<string | Buffer>((so, part) => hmac(so, part), `AWS4${secret}`);
  return hmac(key, toSign).toString('hex');
}

function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/gu, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

test('signatures of s3 requests are those of the definition, for any characters in the key', async () => {
  let numChecked = 0;
  const fake: typeof fetch = async (request) => {
    assert.ok(request instanceof Request);
    const signature = /Signature=([0-9a-f]+)/u.exec(request.headers.get('authorization') ?? '')?.[1];
    assert.equal(signature, await expectedSignature(request, 'secret key'));
    numChecked += 1;
    return new Response('<ListBucketResult></ListBucketResult>', { headers: { 'content-length': '0' } });
  };
  const s3: S3Options = {
    region: 'eu-west-1',
    pathStyle: false,
    credentials: { accessKeyId: 'id', secretAccessKey: 'secret key', sessionToken: 'token' },
  };
  const storage = openStorage('s3://bucket/a prefix', { s3, fetch: fake });
  const key = "ü/a b+c(1)*!'~=&%25.gz";
  await storage.head(key);
  await storage.put(key, new TextEncoder().encode('body'));
  await storage.delete(key);
  for await (const entry of storage.list('ü/a b+*')) assert.fail(entry.key);
  assert.equal(numChecked, 4);
});

describe('s3 options', () => {
  test('are read from the variables of all AWS tools', () => {
    assert.deepEqual(s3OptionsOf({}), { region: 'us-east-1', pathStyle: false });
    assert.deepEqual(
      s3OptionsOf({
        AWS_ENDPOINT_URL: 'http://a',
        AWS_ENDPOINT_URL_S3: 'http://b',
        AWS_DEFAULT_REGION: 'eu-west-1',
        AWS_ACCESS_KEY_ID: 'id',
        AWS_SECRET_ACCESS_KEY: 'key',
        AWS_SESSION_TOKEN: 'token',
      }),
      {
        region: 'eu-west-1',
        pathStyle: true,
        endpoint: 'http://b',
        credentials: { accessKeyId: 'id', secretAccessKey: 'key', sessionToken: 'token' },
      },
    );
    assert.equal(s3OptionsOf({ AWS_ENDPOINT_URL: 'http://a', AWS_S3_VIRTUAL_HOST: 'true' }).pathStyle, false);
  });

  for (const [name, value, cure] of [
    ['AWS_ENDPOINT_URL', 'localhost:9000', 'write http://localhost:9000 or https://localhost:9000'],
    ['AWS_ENDPOINT_URL_S3', 'minio.example', 'write http://minio.example or https://minio.example'],
    ['AWS_ENDPOINT_URL', 'ftp://a', 'found ftp:'],
    ['AWS_ENDPOINT_URL', 'http://a b', 'found no URL'],
    ['AWS_ENDPOINT_URL', 'https://me:secret@a', 'found https:'],
    ['AWS_ENDPOINT_URL', 'https://a?x=secret', 'found https:'],
  ] as const)
    test(`${name}=${value} is refused when a bucket is opened`, () => {
      assert.throws(
        () => s3OptionsOf({ [name]: value }),
        (error: Error & { code?: string }) => {
          assert.equal(error.code, 'CONFIG_INVALID');
          assert.match(error.message, new RegExp(`^${name}: expected a URL that starts with http:// or https://`, 'u'));
          assert.ok(error.message.includes(cure), error.message);
          assert.doesNotMatch(error.message, /secret/);
          return true;
        },
      );
    });

  test('half of the credentials, or a malformed region, is refused', () => {
    assert.throws(() => s3OptionsOf({ AWS_ACCESS_KEY_ID: 'id' }), {
      code: 'CONFIG_INVALID',
      message: /AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not/,
    });
    assert.throws(() => s3OptionsOf({ AWS_SECRET_ACCESS_KEY: 'key' }), {
      message: /AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not/,
    });
    assert.throws(() => s3OptionsOf({ AWS_DEFAULT_REGION: 'eu west.1' }), {
      code: 'CONFIG_INVALID',
      message: /AWS_DEFAULT_REGION: expected a region like eu-west-1/,
    });
  });

  for (const [bucket, region, expected] of [
    ['plain', 'us-gov-west-1', 'https://plain.s3.us-gov-west-1.amazonaws.com/k'],
    ['plain', 'cn-north-1', 'https://plain.s3.cn-north-1.amazonaws.com.cn/k'],
    ['my.data.bucket', 'cn-northwest-1', 'https://s3.cn-northwest-1.amazonaws.com.cn/my.data.bucket/k'],
    ['plain', 'us-isob-east-1', 'https://plain.s3.us-isob-east-1.sc2s.sgov.gov/k'],
    ['my.data.bucket', 'eu-west-1', 'https://s3.eu-west-1.amazonaws.com/my.data.bucket/k'],
    ['Old_Bucket', 'us-east-1', 'https://s3.us-east-1.amazonaws.com/Old_Bucket/k'],
  ] as const)
    test(`bucket ${bucket} of ${region} is at ${expected}`, async () => {
      let url = '';
      const fake: typeof fetch = (request) => {
        assert.ok(request instanceof Request);
        ({ url } = request);
        return Promise.resolve(new Response('', { headers: { 'content-length': '0' } }));
      };
      await openStorage(`s3://${bucket}/k`, { s3: { region, pathStyle: false }, fetch: fake }).head('');
      assert.equal(url, expected);
    });

  test('the bucket is in the host name or in the path, and requests are signed or not', async () => {
    const urls: [string, boolean][] = [];
    const fake: typeof fetch = (request) => {
      assert.ok(request instanceof Request);
      urls.push([request.url, request.headers.has('authorization')]);
      return Promise.resolve(new Response('', { status: 404 }));
    };
    const credentials = { accessKeyId: 'id', secretAccessKey: 'key' };
    for (const s3 of [
      { region: 'eu-west-1', pathStyle: false },
      { region: 'eu-west-1', pathStyle: true, endpoint: 'http://host:1/base', credentials },
    ])
      await assert.rejects(openStorage('s3://my-bucket/p', { s3, fetch: fake }).head('a b'), {
        code: 'STORAGE_NOT_FOUND',
      });
    assert.deepEqual(urls, [
      ['https://my-bucket.s3.eu-west-1.amazonaws.com/p/a%20b', false],
      ['http://host:1/base/my-bucket/p/a%20b', true],
    ]);
  });
});

test('a listing decodes entities, and an invalid one is refused', () => {
  const page = parseListing(
    '<?xml?><ListBucketResult xmlns="x"><IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b</NextContinuationToken>' +
      '<Contents><Key>a&lt;&#xE9;&#233;</Key><Size>3</Size><ETag>&quot;e&quot;</ETag></Contents></ListBucketResult>',
    's3://b',
  );
  assert.deepEqual(page, { objects: [{ key: 'a<éé', bytes: 3, version: 'etag:"e"' }], nextToken: 'a&b' });
  assert.throws(() => parseListing('<html/>', 's3://b'), { code: 'STORAGE_UNAVAILABLE' });
  assert.throws(
    () => parseListing('<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>', 's3://b'),
    {
      code: 'STORAGE_UNAVAILABLE',
    },
  );
});
