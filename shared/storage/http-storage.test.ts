import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { setTimeout } from 'node:timers/promises';
import { answer, hang, serve, startFaultyServer, type Answer, type FaultyServer } from './faulty-server.fixture.ts';
import { retryAfterMs } from './http-exchange.ts';
import { openStorage, type StorageOptions } from './open-storage.ts';
import { RETRY_POLICY, type RetryNotice } from './retries.ts';
import { readAll } from './storage-compliance.fixture.ts';
import type { Storage } from './storage.ts';

const BYTES = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 251));

const servers: FaultyServer[] = [];
after(() => Promise.all(servers.map((server) => server.close())));

interface Opened {
  readonly storage: Storage;
  readonly server: FaultyServer;
  readonly notices: RetryNotice[];
}

/** A server with these answers; waits of the policy take no time. */
async function open(answers: readonly Answer[], options: StorageOptions = {}): Promise<Opened> {
  const server = await startFaultyServer(...answers);
  servers.push(server);
  const notices: RetryNotice[] = [];
  let nowMs = 0;
  const clock = {
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    sleep: (ms: number) => Promise.resolve().then(() => void (nowMs += ms)),
  };
  const storage = openStorage(`${server.url}/folder`, {
    clock,
    random: () => 0.5,
    onRetry: (notice) => notices.push(notice),
    ...options,
  });
  return { storage, server, notices };
}

describe('http storage', () => {
  test('reads sizes, ranges and streams, and asks only for what it needs', async () => {
    const { storage, server } = await open([serve(BYTES)]);
    const { bytes, version } = await storage.head('a');
    assert.deepEqual([bytes, version], [BYTES.length, 'etag:"v1"']);
    assert.deepEqual(Buffer.from(await storage.readRange('a', 5, 7, undefined, version)), BYTES.subarray(5, 12));
    assert.deepEqual(await readAll(storage.stream('a')), BYTES);
    assert.deepEqual(await readAll(storage.stream('a', { from: 299_990 })), BYTES.subarray(299_990));
    assert.deepEqual(server.requests, ['HEAD', 'GET bytes=5-11', 'GET', 'GET bytes=299990-']);
  });

  test('serves from a server without ranges, and one without HEAD', async () => {
    const plain = serve(BYTES, { ranges: false });
    const { storage } = await open([plain]);
    assert.deepEqual(Buffer.from(await storage.readRange('a', 250_000, 7)), BYTES.subarray(250_000, 250_007));
    const headless = await open([
      (request, response) => {
        if (request.method === 'HEAD') answer(405)(request, response);
        else serve(BYTES)(request, response);
      },
    ]);
    assert.deepEqual(await headless.storage.head('a'), { bytes: BYTES.length, version: 'etag:"v1"' });
  });

  test('retries after 429 (after the time in Retry-After), 500 and 503, with growing, jittered waits', async () => {
    const { storage, notices } = await open([
      answer(429, { 'retry-after': '3' }, '{"error":"too many"}'),
      answer(500, {}, '<html>oops</html>'),
      answer(503),
      serve(BYTES),
    ]);
    assert.deepEqual(await readAll(storage.stream('a')), BYTES);
    assert.deepEqual(
      notices.map(({ attempt, waitMs, reason }) => [attempt, waitMs, reason]),
      [
        [1, 3000, '429: too many'],
        [2, RETRY_POLICY.firstWaitMs, '500'],
        [3, 2 * RETRY_POLICY.firstWaitMs, '503'],
      ],
    );
    assert.match(notices[0]!.what, /^reading http:.*\/folder\/a$/);
  });

  test('resumes a cut body at its end, any number of times if each attempt brings bytes', async () => {
    const cut = serve(BYTES, { cutAfter: 1_000 });
    const { storage, server, notices } = await open([...Array.from({ length: 20 }, () => cut), serve(BYTES)]);
    assert.deepEqual(await readAll(storage.stream('a')), BYTES);
    assert.equal(server.requests.length, 21);
    assert.ok(notices.every(({ attempt }) => attempt === 1));
    assert.equal(server.requests[1], 'GET bytes=1000-');
  });

  test('a silent server is retried, before its answer and within a body', async () => {
    const { storage, notices } = await open(
      [
        hang,
        (_request, response) => void response.writeHead(200, { etag: '"v1"', 'content-length': 300_000 }).write('x'),
        serve(BYTES),
      ],
      { retry: { idleMs: 60 } },
    );
    assert.equal((await readAll(storage.stream('a', { from: 0 }))).length, BYTES.length);
    assert.deepEqual(
      notices.map(({ reason }) => reason),
      ['silence for 60 ms', 'silence for 60 ms'],
    );
  });

  test('the time of a slow consumer does not count as silence of the server', async () => {
    const { storage, notices } = await open([serve(BYTES)], { retry: { idleMs: 250 } });
    let bytes = 0;
    for await (const chunk of storage.stream('a')) {
      bytes += chunk.length;
      if (bytes === chunk.length) await setTimeout(400);
    }
    assert.deepEqual([bytes, notices.length], [BYTES.length, 0]);
  });

  test('fails at the deadline, at once if Retry-After is later', async () => {
    const busy = await open([answer(503, {}, 'busy')], { retry: { deadlineMs: 10_000 } });
    await assert.rejects(busy.storage.head('a'), {
      code: 'STORAGE_UNAVAILABLE',
      message: /looking at http:.* no success after \d+ attempt.*last: 503.*deadline of 10000 ms/,
    });
    assert.ok(busy.notices.reduce((sum, { waitMs }) => sum + waitMs, 0) <= 10_000);
    const later = await open([answer(429, { 'retry-after': '3600' })], { retry: { deadlineMs: 10_000 } });
    await assert.rejects(later.storage.head('a'), { code: 'STORAGE_UNAVAILABLE', message: /wait 3600000 ms/ });
    assert.equal(later.server.requests.length, 1);
  });

  test('an address without a server is retried until the deadline', async () => {
    const { storage, server } = await open([hang], { retry: { deadlineMs: 1_000 } });
    await server.close();
    await assert.rejects(storage.readRange('a', 0, 1), { code: 'STORAGE_UNAVAILABLE', message: /ECONNREFUSED/ });
  });

  for (const [status, code] of [
    [401, 'STORAGE_DENIED'],
    [403, 'STORAGE_DENIED'],
    [404, 'STORAGE_NOT_FOUND'],
    [410, 'STORAGE_NOT_FOUND'],
    [412, 'STORAGE_CHANGED'],
    [400, 'STORAGE_UNAVAILABLE'],
  ] as const)
    test(`${status} is ${code} and is not tried again`, async () => {
      const { storage, server } = await open([
        answer(status, {}, '<Error><Code>Why</Code><Message>So</Message></Error>'),
      ]);
      await assert.rejects(readAll(storage.stream('a')), { code });
      assert.equal(server.requests.length, 1);
      await assert.rejects(storage.head('a'), { code });
    });

  test('an object that changes while it is read is STORAGE_CHANGED, even if the server ignores If-Match', async () => {
    const { storage } = await open([serve(BYTES, { cutAfter: 1_000 }), serve(BYTES, { etag: '"v2"' })]);
    await assert.rejects(readAll(storage.stream('a')), { code: 'STORAGE_CHANGED' });
    const naive: Answer = (_request, response) => response.writeHead(200, { etag: '"v2"' }).end(BYTES);
    const ignoring = await open([serve(BYTES, { cutAfter: 1_000 }), naive]);
    await assert.rejects(readAll(ignoring.storage.stream('a')), { code: 'STORAGE_CHANGED', message: /"v1".*"v2"/ });
  });

  test('an object that ends too early is STORAGE_TRUNCATED', async () => {
    const { storage } = await open([serve(BYTES.subarray(0, 10))]);
    await assert.rejects(storage.readRange('a', 5, 6), { code: 'STORAGE_TRUNCATED', message: /11 B, found 10 B/ });
    await assert.rejects(storage.readRange('a', 15, 6), { code: 'STORAGE_TRUNCATED' });
    const empty = await open([serve(new Uint8Array(0))]);
    await assert.rejects(empty.storage.readRange('a', 0, 1), { code: 'STORAGE_TRUNCATED' });
  });

  test('an encoded body is refused: its bytes are not those of the object', async () => {
    const { storage } = await open([answer(200, { 'content-encoding': 'gzip', 'content-length': '3' }, 'abc')]);
    await assert.rejects(storage.head('a'), { code: 'CONFIG_INVALID', message: /Content-Encoding gzip/ });
  });

  test('an abort ends a wait and a read with ABORTED', async () => {
    const controller = new AbortController();
    const { server } = await open([answer(503, { 'retry-after': '60' })]);
    const storage = openStorage(server.url, { onRetry: () => controller.abort() });
    await assert.rejects(storage.head('a', controller.signal), { code: 'ABORTED' });
    const hanging = await open([hang]);
    const reading = new AbortController();
    const pending = hanging.storage.readRange('a', 0, 1, reading.signal);
    setImmediate(() => reading.abort());
    await assert.rejects(pending, { code: 'ABORTED' });
  });

  test('messages show no secrets of a URL, and requests use them', async () => {
    let seen: string | undefined;
    const { server } = await open([
      (request, response) => {
        seen = `${request.headers.authorization ?? ''} ${request.url ?? ''}`;
        serve(BYTES)(request, response);
      },
    ]);
    const storage = openStorage(`${server.url.replace('://', '://me:pass@')}/a?signature=secret`);
    assert.doesNotMatch(storage.placeOf(''), /pass|secret/);
    await storage.head('');
    assert.equal(seen, `Basic ${btoa('me:pass')} /a?signature=secret`);
  });

  test('a redirect does not send the login to another server', async () => {
    const seen: (string | undefined)[] = [];
    const other = await open([
      (request, response) => {
        seen.push(request.headers.authorization);
        serve(BYTES)(request, response);
      },
    ]);
    const { server } = await open([
      (request, response) => {
        seen.push(request.headers.authorization);
        answer(302, { location: `${other.server.url}/b` })(request, response);
      },
    ]);
    const storage = openStorage(server.url.replace('://', '://me:pass@'));
    assert.equal((await storage.readRange('a', 0, 3)).length, 3);
    assert.deepEqual(seen, [`Basic ${btoa('me:pass')}`, undefined]);
  });

  test('a failure names the host that a redirect led to', async () => {
    for (const [last, code, message] of [
      [answer(403), 'STORAGE_DENIED', /folder\/a answers 403 \(from 127\.0\.0\.1:(\d+)\)/],
      [answer(404), 'STORAGE_NOT_FOUND', /folder\/a is not there \(404 \(from 127\.0\.0\.1:(\d+)\)\)/],
      [answer(503), 'STORAGE_UNAVAILABLE', /last: 503 \(from 127\.0\.0\.1:(\d+)\)/],
    ] as const) {
      const other = await open([last]);
      const { storage } = await open([answer(302, { location: `${other.server.url}/b` })]);
      await assert.rejects(storage.readRange('a', 0, 3), (error: Error & { code?: string }) => {
        assert.equal(error.code, code);
        assert.equal(message.exec(error.message)?.[1], new URL(other.server.url).port, error.message);
        return true;
      });
    }
    const gone = await open([hang]);
    await gone.server.close();
    const { storage } = await open([answer(307, { location: `${gone.server.url}/b` })], { retry: { deadlineMs: 10 } });
    await assert.rejects(storage.head('a'), {
      message: new RegExp(`the connection to ${new URL(gone.server.url).host} broke: ECONNREFUSED`, 'u'),
    });
    const silent = await open([hang]);
    const idle = await open([answer(302, { location: `${silent.server.url}/b` })], {
      retry: { deadlineMs: 0, idleMs: 60 },
    });
    await assert.rejects(idle.storage.head('a'), {
      message: new RegExp(`silence for 60 ms \\(from ${new URL(silent.server.url).host}\\)`, 'u'),
    });
  });

  test('redirects are followed ten times, relative ones too, and only to web servers', async () => {
    const on: Answer = answer(302, { location: '/next' });
    const { storage } = await open([...Array.from({ length: 10 }, () => on), serve(BYTES)]);
    assert.equal((await storage.head('a')).bytes, BYTES.length);
    const endless = await open([on]);
    await assert.rejects(endless.storage.head('a'), { code: 'STORAGE_UNAVAILABLE', message: /after 10 redirects/ });
    assert.equal(endless.server.requests.length, 11);
    const odd = await open([answer(302, { location: 'file:///etc/passwd' })]);
    await assert.rejects(odd.storage.head('a'), {
      code: 'STORAGE_UNAVAILABLE',
      message: /127\.0\.0\.1:\d+ redirects \(302\) to something that is not an http: or https: URL/,
    });
  });

  test('HEAD answered with 400 is asked again by GET, whose body says why', async () => {
    const { storage } = await open([
      (request, response) => {
        const why = '<Error><Code>ExpiredToken</Code><Message>The token has expired</Message></Error>';
        answer(400, {}, request.method === 'HEAD' ? '' : why)(request, response);
      },
    ]);
    await assert.rejects(storage.head('a'), { message: /answers 400: ExpiredToken: The token has expired/ });
  });

  test('a server that tells no size, or encodes, is refused with what to do', async () => {
    const sized = await open([
      (request, response) => {
        response.writeHead(200);
        if (request.method !== 'HEAD') response.write('x');
        response.end();
      },
    ]);
    await assert.rejects(sized.storage.head('a'), { message: /no Content-Length.*download it and give the path/ });
    const encoded = await open([answer(200, { 'content-encoding': 'gzip', 'content-length': '3' }, 'abc')]);
    await assert.rejects(encoded.storage.head('a'), { message: /download it and give the path/ });
  });

  test('is only read', async () => {
    const { storage } = await open([serve(BYTES)]);
    await assert.rejects(storage.put('a', BYTES), { code: 'CONFIG_INVALID' });
    await assert.rejects(storage.delete('a'), { code: 'CONFIG_INVALID' });
    assert.throws(() => storage.list(''), { code: 'CONFIG_INVALID' });
  });
});

test('Retry-After is seconds or a date', () => {
  const nowMs = Date.parse('2024-01-01T00:00:00Z');
  const of = (value: string) => retryAfterMs(new Headers({ 'retry-after': value }), nowMs);
  assert.deepEqual(
    ['7', 'Mon, 01 Jan 2024 00:00:05 GMT', 'Mon, 01 Jan 2020 00:00:00 GMT', 'soon'].map(of),
    [7000, 5000, 0, 0],
  );
  assert.equal(retryAfterMs(new Headers(), nowMs), 0);
});
