import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createHttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { answer, serve, startFaultyServer, type Answer, type FaultyServer } from './faulty-server.fixture.ts';
import { openStorage } from './open-storage.ts';
import { startProxy, TEST_CERTIFICATE, TEST_KEY, type ProxyInit, type ProxyServer } from './proxy-server.fixture.ts';
import { chooseProxy } from './proxy.ts';
import type { RetryNotice } from './retries.ts';
import { readAll } from './storage-compliance.fixture.ts';

describe('the proxy of a URL', () => {
  const of = (target: string, environment: Record<string, string>) => chooseProxy(new URL(target), environment)?.name;

  test('is that of its scheme, small letters first; an empty variable names none', () => {
    assert.equal(of('http://a.test/', { HTTP_PROXY: 'http://p:1' }), 'p:1, from HTTP_PROXY');
    assert.equal(of('https://a.test/', { HTTP_PROXY: 'http://p:1' }), undefined);
    assert.equal(of('https://a.test/', { HTTPS_PROXY: 'http://p:1', https_proxy: 'q:2' }), 'q:2, from https_proxy');
    assert.equal(of('http://a.test/', { HTTP_PROXY: 'http://p:1', http_proxy: ' ' }), 'p:1, from HTTP_PROXY');
    assert.equal(of('http://a.test/', {}), undefined);
  });

  test('its name has no login', () => {
    assert.equal(of('http://a.test/', { HTTP_PROXY: 'http://me:secret@p:1' }), 'p:1, from HTTP_PROXY');
  });

  for (const value of ['socks5://p:1', 'http://', 'http://a b', 'p:99999'])
    test(`${value} is refused with the name of the variable`, () => {
      assert.throws(() => of('https://a.test/', { HTTPS_PROXY: value }), {
        code: 'CONFIG_INVALID',
        message: /^HTTPS_PROXY: expected the URL of an HTTP proxy/,
      });
    });

  for (const [list, target, isDirect] of [
    ['*', 'http://a.test/', true],
    ['b.test, *', 'http://a.test/', true],
    ['a.test', 'http://a.test/', true],
    ['A.Test.', 'http://a.test/', true],
    ['a.test', 'http://b.a.test/', true],
    ['.a.test', 'http://a.test/', true],
    ['*.a.test', 'http://b.a.test/', true],
    ['a.test', 'http://ba.test/', false],
    ['a.test', 'http://a.test.example/', false],
    ['b.test a.test', 'http://a.test/', true],
    ['a.test:8080', 'http://a.test:8080/', true],
    ['a.test:8080', 'http://a.test/', false],
    ['a.test:80', 'http://a.test/', true],
    ['a.test:443', 'http://a.test/', false],
    ['127.0.0.1', 'http://127.0.0.1:9/', true],
    ['0.0.1', 'http://127.0.0.1:9/', false],
    ['10.0.0.0/8', 'http://10.1.2.3/', true],
    ['10.0.0.0/8', 'http://11.1.2.3/', false],
    ['10.0.0.0/99', 'http://10.1.2.3/', false],
    ['::1', 'http://[::1]:9/', true],
    ['[::1]:9', 'http://[::1]:9/', true],
    ['[::1]:9', 'http://[::1]:8/', false],
    ['fd00::/8', 'http://[fd12::1]/', true],
    ['', 'http://a.test/', false],
    [',, ', 'http://a.test/', false],
  ] as const)
    test(`NO_PROXY=${JSON.stringify(list)} ${isDirect ? 'exempts' : 'does not exempt'} ${target}`, () => {
      assert.equal(
        of(target, { HTTP_PROXY: 'http://p:1', NO_PROXY: list }),
        isDirect ? undefined : 'p:1, from HTTP_PROXY',
      );
    });
});

const BYTES = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 31) % 251));
const opened: (FaultyServer | ProxyServer)[] = [];
after(() => Promise.all(opened.map((server) => server.close())));
const QUICK = { deadlineMs: 300_000, firstWaitMs: 1, maxWaitMs: 1 };

async function open(
  answers: readonly Answer[],
  init: ProxyInit = {},
  login = '',
): Promise<{ server: FaultyServer; proxy: ProxyServer; environment: Record<string, string> }> {
  const server = await startFaultyServer(...answers);
  const port = Number(new URL(server.url).port);
  const proxy = await startProxy({ routes: { 'files.test': port, 'cdn.test': port }, ...init });
  opened.push(server, proxy);
  const url = `http://${login}${proxy.host}`;
  return { server, proxy, environment: { HTTP_PROXY: url, HTTPS_PROXY: url } };
}

describe('a request through a proxy', () => {
  test('reads ranges and streams, resumes a cut body, and writes', async () => {
    let body = '';
    const { proxy, environment } = await open([
      serve(BYTES, { cutAfter: 1_000 }),
      serve(BYTES),
      (request, response) => {
        request.on('data', (chunk: Buffer) => (body += chunk.toString()));
        request.on('end', () => response.end());
      },
    ]);
    const storage = openStorage('http://files.test/a', { environment, retry: QUICK });
    assert.deepEqual(await readAll(storage.stream('')), BYTES);
    assert.deepEqual(proxy.requests, ['GET http://files.test/a', 'GET http://files.test/a']);
    const s3 = { endpoint: 'http://files.test', region: 'eu-west-1', pathStyle: true };
    await openStorage('s3://bucket', { environment, s3 }).put('k', Buffer.from('content'));
    assert.deepEqual([proxy.requests.at(-1), body], ['PUT http://files.test/bucket/k', 'content']);
  });

  test('goes directly where NO_PROXY says so', async () => {
    const { server, proxy, environment } = await open([serve(BYTES)]);
    const storage = openStorage(server.url, { environment: { ...environment, NO_PROXY: 'other.test,127.0.0.1' } });
    assert.equal((await storage.head('')).bytes, BYTES.length);
    assert.deepEqual(proxy.requests, []);
    await openStorage(server.url, {
      environment: { ...environment, NO_PROXY: '127.0.0.1:1' },
      retry: { deadlineMs: 0 },
    })
      .head('')
      .catch(() => undefined); // the proxy has no route to it
    assert.deepEqual(proxy.requests, [`HEAD ${server.url}/`]);
  });

  test('sends the login of the variable, and shows it in no message', async () => {
    const { environment } = await open([serve(BYTES)], { login: 'me:p@ss' }, 'me:p%40ss@');
    assert.equal((await openStorage('http://files.test/a', { environment }).head('')).bytes, BYTES.length);
    const wrong = await open([serve(BYTES)], { login: 'me:p@ss' }, 'me:secret@');
    for (const location of ['http://files.test/a', 'https://files.test/a'])
      await assert.rejects(openStorage(location, { environment: wrong.environment }).head(''), (error: Error) => {
        assert.match(
          error.message,
          /the proxy 127\.0\.0\.1:\d+, from HTTPS?_PROXY wants a login \(407\), and another one/,
        );
        assert.doesNotMatch(error.message, /secret/);
        return true;
      });
  });

  test('without a login that the proxy wants fails at once with what to do', async () => {
    const { proxy, environment } = await open([serve(BYTES)], { login: 'me:secret' });
    for (const location of ['http://files.test/a', 'https://files.test/a'])
      await assert.rejects(openStorage(location, { environment }).head(''), {
        code: 'STORAGE_DENIED',
        message: /the proxy .* wants a login \(407\), and none was given: .* http:\/\/user:password@127\.0\.0\.1/,
      });
    assert.equal(proxy.requests.length, 2);
  });

  test('that the proxy refuses names proxy and host; 502 and 503 are tried again', async () => {
    const { environment } = await open([], { status: 403 });
    await assert.rejects(openStorage('https://files.test/a', { environment }).head(''), {
      code: 'STORAGE_DENIED',
      message:
        /the proxy 127\.0\.0\.1:\d+, from HTTPS_PROXY answers 403 for files\.test; allow that host there, or name it in NO_PROXY/,
    });
    const busy = await open([], { status: 502 });
    for (const [location, message] of [
      ['https://files.test/a', /the proxy 127\.0\.0\.1:\d+, from HTTPS_PROXY answers 502 for files\.test/],
      ['http://files.test/a', /502 \(through the proxy 127\.0\.0\.1:\d+, from HTTP_PROXY\)/],
    ] as const) {
      const notices: RetryNotice[] = [];
      const onRetry = (notice: RetryNotice) => void notices.push(notice);
      let nowMs = 0;
      const clock = {
        monotonicMs: () => nowMs,
        wallMs: () => nowMs,
        sleep: (ms: number) => Promise.resolve(void (nowMs += ms)),
      };
      const storage = openStorage(location, { environment: busy.environment, clock, onRetry });
      await assert.rejects(storage.head(''), { code: 'STORAGE_UNAVAILABLE', message });
      assert.ok(notices.length > 0);
      assert.match(notices[0]!.reason, message);
    }
  });

  test('a proxy that is away is named with the host', async () => {
    const { proxy, environment } = await open([]);
    await proxy.close();
    for (const location of ['http://files.test/a', 'https://files.test/a'])
      await assert.rejects(openStorage(location, { environment, retry: { deadlineMs: 0 } }).head(''), {
        code: 'STORAGE_UNAVAILABLE',
        message:
          /the connection to files\.test through the proxy 127\.0\.0\.1:\d+, from HTTPS?_PROXY broke: ECONNREFUSED/,
      });
  });

  test('a redirect chooses the proxy of its own host', async () => {
    const { server, proxy, environment } = await open([answer(302, { location: 'http://cdn.test/b' }), serve(BYTES)]);
    const storage = openStorage(server.url, { environment: { ...environment, NO_PROXY: '127.0.0.1' } });
    assert.equal((await storage.readRange('a', 0, 3)).length, 3);
    assert.deepEqual(proxy.requests, ['GET http://cdn.test/b']);
  });

  test('for https: goes through a tunnel, with the certificates that Node trusts', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'exmix-proxy-'));
    const server = createHttpsServer({ key: TEST_KEY, cert: TEST_CERTIFICATE }, serve(BYTES));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const proxy = await startProxy({ routes: { 'files.test': (server.address() as AddressInfo).port } });
    opened.push(proxy);
    try {
      const environment = { HTTPS_PROXY: proxy.url };
      await assert.rejects(openStorage('https://files.test/a', { environment }).head(''), {
        code: 'STORAGE_UNAVAILABLE',
        message:
          /the connection to files\.test through the proxy .* cannot be made: .*SELF_SIGNED.*NODE_EXTRA_CA_CERTS/,
      });
      writeFileSync(join(folder, 'authority.pem'), TEST_CERTIFICATE);
      const module = JSON.stringify(new URL('./open-storage.ts', import.meta.url).href);
      const program = `import(${module}).then(async ({ openStorage }) => console.log((await openStorage('https://files.test/a').head('')).bytes))`;
      const child = spawn(process.execPath, ['--import', 'tsx', '-e', program], {
        env: { PATH: process.env['PATH'], ...environment, NODE_EXTRA_CA_CERTS: join(folder, 'authority.pem') },
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let out = '';
      child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
      await once(child, 'close');
      assert.equal(out.trim(), String(BYTES.length));
      assert.ok(proxy.requests.every((request) => request === 'CONNECT files.test:443'));
    } finally {
      server.closeAllConnections();
      server.close();
      rmSync(folder, { recursive: true });
    }
  });
});
