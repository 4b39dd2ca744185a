import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { ManualClock } from '../manual-clock.fixture.ts';
import { RandomStream } from '../random.ts';
import { testPingClock, testTransport } from './compliance.ts';
import { MAX_PINGS, type Connection, type Listener, type ListenInit, type Refusal } from './transport.ts';
import { webSocketTransport as transport } from './websocket-transport.ts';

const TOKEN = 'secret';
const HANDSHAKE_TIMEOUT_MS = 200;

testTransport('websocket', () => transport);
testPingClock('websocket', () => transport);

async function listen(
  init: Partial<ListenInit> = {},
): Promise<{ listener: Listener; refusals: Refusal[]; accepted: Connection[] }> {
  const refusals: Refusal[] = [];
  const accepted: Connection[] = [];
  const listener = await transport.listen({
    host: '127.0.0.1',
    port: 0,
    token: TOKEN,
    handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    onConnection: (connection) => accepted.push(connection),
    onRefused: (refusal) => refusals.push(refusal),
    ...init,
  });
  return { listener, refusals, accepted };
}

async function knock(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Reads a raw socket to its end. */
async function readAll(socket: Socket): Promise<string> {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  // Not events.once: that one rejects on the reset which a refused socket may see.
  if (!socket.closed) await new Promise((resolve) => socket.once('close', resolve));
  return text;
}

/** The listener still serves a peer with the token. */
async function expectServing(listener: Listener): Promise<void> {
  const connection = await transport.dial(listener.url, { token: TOKEN, timeoutMs: 2000 });
  assert.ok((await connection.ping(2000)) >= 0);
  connection.close('NORMAL', '');
  await connection.closed;
}

const UPGRADE = (token: string): string =>
  `GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\nconnection: upgrade\r\nupgrade: websocket\r\n` +
  'sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

describe('hostile sockets', () => {
  test('random bytes are dropped and reported', async () => {
    const { listener, refusals } = await listen();
    const random = new RandomStream([5]);
    for (let i = 0; i < 20; i++) {
      const socket = await knock(listener.port);
      const done = readAll(socket);
      socket.write(Buffer.from(Array.from({ length: 500 }, () => random.nextBelow(256))));
      await done;
    }
    assert.equal(refusals.length, 20);
    await expectServing(listener);
    await listener.close();
  });

  test('a wrong token gets a 401, and no further byte is read', async () => {
    const { listener, accepted } = await listen();
    const socket = await knock(listener.port);
    const done = readAll(socket);
    socket.write(UPGRADE('wrong') + '\x82\x05hello');
    assert.match(await done, /^HTTP\/1.1 401 /);
    assert.equal(accepted.length, 0);
    await listener.close();
  });

  test('a half-open request and a slow header sender end at the deadline', async () => {
    const { listener, refusals } = await listen();
    const startMs = performance.now();
    const silent = await knock(listener.port);
    const slow = await knock(listener.port);
    slow.write('GET / HTTP/1.1\r\n');
    const drip = setInterval(() => slow.write('x-a: b\r\n'), 20).unref();
    await Promise.all([readAll(silent), readAll(slow)]);
    clearInterval(drip);
    assert.ok(performance.now() - startMs < 10 * HANDSHAKE_TIMEOUT_MS);
    assert.deepEqual(new Set(refusals.map(({ code }) => code)), new Set(['AUTH_FAILED']));
    await expectServing(listener);
    await listener.close();
  });

  test('endless headers end the socket', async () => {
    const { listener } = await listen({ handshakeTimeoutMs: 60_000 });
    const socket = await knock(listener.port);
    const done = readAll(socket);
    socket.write(`GET / HTTP/1.1\r\n${'x-a: bbbbbbbbbbbbbbbbbbbbbb\r\n'.repeat(2000)}`);
    await done;
    await expectServing(listener);
    await listener.close();
  });

  test('a frame header with a length of a terabyte closes that socket only, and allocates nothing', async () => {
    const { listener, accepted } = await listen();
    const socket = await knock(listener.port);
    const done = readAll(socket);
    socket.write(UPGRADE(TOKEN));
    await once(socket, 'data');
    const before = process.memoryUsage().arrayBuffers;
    socket.write(Buffer.from('82ff' + '0000010000000000' + '00000000', 'hex'));
    await done;
    assert.equal((await accepted[0]!.closed).error?.code, 'MESSAGE_TOO_LARGE');
    assert.ok(process.memoryUsage().arrayBuffers - before < 4 << 20);
    await expectServing(listener);
    await listener.close();
  });

  test('the limit of a message also bounds many small fragments', async () => {
    const { listener, accepted } = await listen({ limits: { maxMessageBytes: 1000 } });
    const socket = await knock(listener.port);
    const done = readAll(socket);
    socket.write(UPGRADE(TOKEN));
    await once(socket, 'data');
    socket.write(Buffer.from('028100000000' + '61', 'hex'));
    socket.write(Buffer.concat(Array.from({ length: 1100 }, () => Buffer.from('0081' + '00000000' + '61', 'hex'))));
    await done;
    assert.equal((await accepted[0]!.closed).error?.code, 'MESSAGE_TOO_LARGE');
    await listener.close();
  });

  test('200 silent sockets: those over the bound are dropped at once, the rest at the deadline', async () => {
    const { listener, refusals } = await listen({ maxUnauthenticated: 16 });
    const sockets = await Promise.all(Array.from({ length: 200 }, () => knock(listener.port)));
    await Promise.all(sockets.map(readAll));
    const atOnce = refusals.filter(({ reason }) => reason.startsWith('more than 16 sockets'));
    assert.equal(refusals.length, 200);
    assert.ok(atOnce.length >= 184 - 16, `${atOnce.length} dropped at once`);
    await expectServing(listener);
    await listener.close();
  });

  test('a peer that answers no ping: each is late, and still counts against the bound', async () => {
    const clock = new ManualClock();
    const { listener, accepted } = await listen({ clock });
    const socket = await knock(listener.port);
    socket.write(UPGRADE(TOKEN));
    await once(socket, 'data');
    for (let i = 0; i < MAX_PINGS; i++) {
      const late = assert.rejects(accepted[0]!.ping(1000), { code: 'CONNECT_FAILED' });
      await Promise.all([clock.advance(1000), late]);
    }
    await assert.rejects(accepted[0]!.ping(1000), { code: 'SEND_OVERFLOW' });
    socket.destroy();
    await accepted[0]!.closed;
    await listener.close();
  });

  test('a text message is MESSAGE_INVALID', async () => {
    const { listener, accepted } = await listen();
    const socket = await knock(listener.port);
    const done = readAll(socket);
    socket.write(UPGRADE(TOKEN));
    await once(socket, 'data');
    accepted[0]!.onMessage(() => assert.fail('text was handed on'));
    socket.write(Buffer.from('8185' + '00000000', 'hex').toString('latin1') + 'hello', 'latin1');
    assert.equal((await accepted[0]!.closed).error?.code, 'MESSAGE_INVALID');
    socket.destroy();
    await done;
    await listener.close();
  });
});

describe('dialling', () => {
  test('a peer that accepts and never answers is CONNECT_FAILED at the deadline', async () => {
    const server = createServer((socket) => socket.on('error', () => undefined)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await assert.rejects(transport.dial(`ws://127.0.0.1:${port}`, { token: TOKEN, timeoutMs: 50 }), {
      code: 'CONNECT_FAILED',
      message: /within 50 ms/,
    });
    const controller = new AbortController();
    const dialling = transport.dial(`ws://127.0.0.1:${port}`, {
      token: TOKEN,
      timeoutMs: 5000,
      signal: controller.signal,
    });
    controller.abort();
    await assert.rejects(dialling, { code: 'ABORTED' });
    server.close();
  });

  test('a peer that is no WebSocket server is CONNECT_FAILED', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end('SSH-2.0-OpenSSH\r\n');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await assert.rejects(transport.dial(`ws://127.0.0.1:${port}`, { token: TOKEN, timeoutMs: 2000 }), {
      code: 'CONNECT_FAILED',
    });
    server.close();
  });
});

describe('plain HTTP', () => {
  const get = (port: number, token: string): Promise<{ status: number; body: string }> =>
    new Promise((resolve, reject) => {
      const call = request({ port, host: '127.0.0.1', path: '/status', headers: { authorization: `Bearer ${token}` } });
      call.on('response', (response) => {
        let body = '';
        response.on('data', (chunk: Buffer) => (body += chunk.toString()));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
      });
      call.on('error', reject);
      call.end();
    });

  test('requests with the token reach onRequest, others get a 401', async () => {
    const { listener, refusals } = await listen({
      onRequest: (incoming, response) => response.end(`you asked for ${incoming.url ?? ''}`),
    });
    assert.deepEqual(await get(listener.port, TOKEN), { status: 200, body: 'you asked for /status' });
    assert.equal((await get(listener.port, 'wrong')).status, 401);
    assert.deepEqual(
      refusals.map(({ code }) => code),
      ['AUTH_FAILED'],
    );
    await expectServing(listener);
    await listener.close();
  });

  test('refusals and failed dials name neither login nor query', async () => {
    const { listener, refusals } = await listen();
    const { port } = listener;
    const secretUrl = `ws://user:sekret@127.0.0.1:${port}/path?token=sekret`;
    const failures = [
      transport.dial(secretUrl, { token: 'wrong', timeoutMs: 60_000 }),
      transport.dial('ftp://user:sekret@host', { token: TOKEN, timeoutMs: 60_000 }),
      transport.dial(secretUrl, { token: TOKEN, timeoutMs: 60_000, signal: AbortSignal.abort() }),
    ];
    for (const result of await Promise.allSettled(failures)) {
      assert.ok(result.status === 'rejected');
      assert.ok(!String(result.reason).includes('sekret'), String(result.reason));
    }
    assert.deepEqual(
      refusals.map(({ reason }) => reason),
      ['WebSocket /path without the token of the run'],
    );
    await listener.close();
    await assert.rejects(transport.dial(secretUrl, { token: TOKEN, timeoutMs: 60_000 }), (error: Error) => {
      assert.match(error.message, new RegExp(`cannot connect to ws://127.0.0.1:${port}/path:`, 'u'));
      return !error.message.includes('sekret');
    });
  });

  test('without onRequest a request gets a 426', async () => {
    const { listener } = await listen();
    assert.equal((await get(listener.port, TOKEN)).status, 426);
    await listener.close();
  });
});
