import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { ManualClock } from '../manual-clock.fixture.ts';
import { RandomStream } from '../random.ts';
import { testPingClock, testTransport } from './compliance.ts';
import type { Challenge } from './mutual-proof.ts';
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

  test('a first message over its limit is refused before it is complete', async () => {
    const { listener, accepted } = await listen({ limits: { maxFirstMessageBytes: 1000 } });
    const socket = await knock(listener.port);
    const done = readAll(socket);
    socket.write(UPGRADE(TOKEN));
    await once(socket, 'data');
    // A frame of 16 MiB is announced, and little more than the limit is sent.
    socket.write(Buffer.concat([Buffer.from('82ff' + '0000000001000000' + '00000000', 'hex'), Buffer.alloc(1100)]));
    await done;
    assert.equal((await accepted[0]!.closed).error?.code, 'MESSAGE_TOO_LARGE');
    await expectServing(listener);
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

describe('sockets at a port that wants a proof', () => {
  const SECRET = Buffer.alloc(32, 1);
  const NONCE = 'ab'.repeat(32);
  const upgradeWith = (headers: string): string => UPGRADE('x').replace('authorization: Bearer x\r\n', headers);

  /** A masked binary frame of at most 125 B. */
  const frame = (payload: Uint8Array): Buffer =>
    Buffer.concat([Buffer.from([0x82, 0x80 | payload.length, 0, 0, 0, 0]), payload]);

  async function listenForProofs(challenge: () => Challenge | string = () => ({ secret: SECRET, greeting: '' })) {
    const refusals: Refusal[] = [];
    const accepted: Connection[] = [];
    const listener = await transport.listen({
      ...{ host: '127.0.0.1', port: 0, challenge, handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS },
      limits: { maxMessageBytes: 64 },
      onConnection: (connection) => accepted.push(connection),
      onRefused: (refusal) => refusals.push(refusal),
    });
    return { listener, refusals, accepted };
  }

  /** Sends an upgrade with a nonce, then `bytes`. @returns what came back until the end */
  async function answerTo(listener: Listener, bytes: Buffer | undefined): Promise<string> {
    const socket = await knock(listener.port);
    const done = readAll(socket);
    socket.write(upgradeWith(`exmix-nonce: ${NONCE}\r\n`));
    await once(socket, 'data');
    if (bytes !== undefined) socket.write(bytes);
    return done;
  }

  for (const [what, bytes] of [
    ['random bytes in place of the proof', frame(Buffer.alloc(32, 7))],
    ['a proof that is too short', frame(Buffer.alloc(31))],
    ['a message that is larger than a proof', frame(Buffer.alloc(60))],
    ['a frame of a terabyte', Buffer.from('82ff' + '0000010000000000' + '00000000', 'hex')],
    ['text', Buffer.from('818500000000' + '68656c6c6f', 'hex')],
    ['pings without end', Buffer.concat(Array.from({ length: 100 }, () => Buffer.from('898000000000', 'hex')))],
    ['no frame at all', Buffer.alloc(200, 0xff)],
    ['nothing, until the deadline', undefined],
  ] as const)
    test(`${what} is AUTH_FAILED, and nobody is accepted`, async () => {
      const { listener, refusals, accepted } = await listenForProofs();
      const text = await answerTo(listener, bytes);
      assert.match(text, /^HTTP\/1.1 101 [^]*exmix-proof: [0-9a-f]{64}/);
      assert.deepEqual(
        refusals.map(({ code }) => code),
        ['AUTH_FAILED'],
      );
      assert.equal(accepted.length, 0);
      const connection = await transport.dial(listener.url, { secret: SECRET, timeoutMs: 60_000 });
      assert.ok((await connection.ping(60_000)) >= 0);
      connection.close('NORMAL', '');
      await listener.close();
    });

  test('the token of the run opens no such port, and no plain request is answered', async () => {
    const { listener, refusals, accepted } = await listenForProofs();
    for (const text of [UPGRADE(TOKEN), 'GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer \r\n\r\n']) {
      const socket = await knock(listener.port);
      const done = readAll(socket);
      socket.write(text);
      assert.match(await done, /^HTTP\/1.1 401 /);
    }
    assert.equal(refusals.length, 2);
    assert.equal(accepted.length, 0);
    await listener.close();
  });

  test('a path that is taken, or has another secret, by the time of the proof is refused', async () => {
    for (const later of ['it is taken', { secret: Buffer.from(SECRET), greeting: '' }] as const) {
      let numAsked = 0;
      const challenge = (): Challenge | string => (numAsked++ === 0 ? { secret: SECRET, greeting: '' } : later);
      const { listener, refusals, accepted } = await listenForProofs(challenge);
      const connection = await transport.dial(listener.url, { secret: SECRET, timeoutMs: 60_000 });
      const { code } = await connection.closed;
      assert.equal(code, 4007);
      assert.equal(refusals[0]?.code, 'JOIN_REFUSED');
      assert.equal(accepted.length, 0);
      await listener.close();
    }
  });

  test('a dialler sends neither token nor proof to a listener that has not proved the secret', async () => {
    const seen: string[] = [];
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.on('data', (bytes: Buffer) => {
        seen.push(bytes.toString('latin1'));
        const key = /sec-websocket-key: (\S+)/iu.exec(bytes.toString('latin1'))?.[1] ?? '';
        const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
        socket.write(
          'HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n' +
            `sec-websocket-accept: ${accept}\r\nexmix-nonce: ${NONCE}\r\nexmix-proof: ${NONCE}\r\n\r\n`,
        );
      });
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await assert.rejects(transport.dial(`ws://127.0.0.1:${port}/data/1/1/0/1`, { secret: SECRET, timeoutMs: 60_000 }), {
      code: 'AUTH_FAILED',
    });
    server.close();
    await once(server, 'close');
    assert.equal(seen.length, 1);
    assert.doesNotMatch(seen[0]!, /authorization/iu);
    assert.match(seen[0]!, /exmix-nonce: [0-9a-f]{64}/u);
  });
});
