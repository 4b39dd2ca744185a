import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createHash } from 'node:crypto';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { describe, test } from 'node:test';
import { TrainerError } from '../errors.ts';
import type { Connection, Listener } from './transport.ts';
import { dialPlaced } from './websocket-placed.ts';
import { webSocketTransport } from './websocket-transport.ts';

const TOKEN = 'placed';
const HEADER_BYTES = 8;
const init = { token: TOKEN, timeoutMs: 5000 };

interface Arrivals {
  readonly memory: Buffer;
  readonly received: number[];
  wait: (count: number) => Promise<void>;
  readonly messages: { headerBytes: number; place: (header: Uint8Array) => Uint8Array; received: () => void };
}

/** Header: place (u32) and length (u32) in `memory`. */
function makeArrivals(): Arrivals {
  const memory = Buffer.alloc(4 << 20);
  const received: number[] = [];
  let wake = (): void => undefined;
  let current = 0;
  return {
    memory,
    received,
    wait: async (count) => {
      while (received.length < count) await new Promise<void>((resolve) => (wake = resolve));
    },
    messages: {
      headerBytes: HEADER_BYTES,
      place: (bytes) => {
        const header = Buffer.from(bytes);
        current = header.readUInt32LE(0);
        if (current > memory.length) throw new TrainerError('FRAME_STALE', 'no such place');
        return memory.subarray(current, current + header.readUInt32LE(4));
      },
      received: () => {
        received.push(current);
        wake();
      },
    },
  };
}

function header(at: number, length: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.writeUInt32LE(at, 0);
  bytes.writeUInt32LE(length, 4);
  return bytes;
}

async function openPlaced(): Promise<{ near: Connection; far: Connection; listener: Listener; arrivals: Arrivals }> {
  const accepted: Connection[] = [];
  const onConnection = (connection: Connection): void => void accepted.push(connection);
  const listener = await webSocketTransport.listen({ host: '127.0.0.1', port: 0, token: TOKEN, onConnection });
  const arrivals = makeArrivals();
  const near = await dialPlaced(listener.url, init, arrivals.messages);
  return { near, far: accepted[0]!, listener, arrivals };
}

describe('placed receiving', () => {
  test('payloads of every size arrive in their memory, in order, with pings from both sides in between', async () => {
    const { near, far, listener, arrivals } = await openPlaced();
    const sizes = [64, 1, 125, 126, 65535, 65536, 1 << 20, 7];
    let at = 0;
    const expected: number[] = [];
    for (const [i, size] of sizes.entries()) {
      const sending = far.send([header(at, size), Buffer.alloc(size, i + 1)]);
      const pings = [far.ping(5000), near.ping(5000)];
      await Promise.all([sending, ...pings]);
      expected.push(at);
      at += size;
    }
    await arrivals.wait(sizes.length);
    assert.deepEqual(arrivals.received, expected);
    for (const [i, size] of sizes.entries())
      assert.ok(arrivals.memory.subarray(expected[i], expected[i]! + size).every((byte) => byte === i + 1));
    near.close('NORMAL', '');
    assert.equal((await far.closed).code, 1000);
    await listener.close();
  });

  test('the receiver’s own messages go out, and its close tells code and reason', async () => {
    const { near, far, listener } = await openPlaced();
    const message = new Promise<Uint8Array>((resolve) => far.onMessage(resolve));
    await near.send([Buffer.from('ready')]);
    assert.equal(Buffer.from(await message).toString(), 'ready');
    near.close('COLLECTIVE_TIMEOUT', 'too slow');
    const { error, reason } = await far.closed;
    assert.equal(error?.code, 'COLLECTIVE_TIMEOUT');
    assert.equal(reason, 'too slow');
    await near.closed;
    await listener.close();
  });

  test('a close from the sender after frames arrives after them, with code and reason', async () => {
    const { near, far, listener, arrivals } = await openPlaced();
    const sends = Array.from({ length: 5 }, (_, i) => far.send([header(i << 18, 1 << 18), Buffer.alloc(1 << 18, i)]));
    far.close('WORKER_LOST', 'bye');
    await Promise.allSettled(sends);
    assert.equal((await near.closed).error?.code, 'WORKER_LOST');
    assert.equal(arrivals.received.length, 5);
    await listener.close();
  });

  test('a sender that disconnects within a payload is CONNECTION_LOST', async () => {
    const { url, close } = await fakeServer((socket) => {
      socket.write(
        Buffer.concat([
          Buffer.from([0x02, 8]),
          header(0, 100_000),
          Buffer.from('807f00000000000186a0', 'hex'),
          Buffer.alloc(500),
        ]),
      );
      socket.destroySoon();
    });
    const arrivals = makeArrivals();
    const connection = await dialPlaced(url, init, arrivals.messages);
    assert.equal((await connection.closed).error?.code, 'CONNECTION_LOST');
    assert.deepEqual(arrivals.received, []);
    close();
  });

  test('frames in the same read as the handshake are read like any other', async () => {
    const { url, close } = await fakeServer(
      () => undefined,
      Buffer.concat([Buffer.from([0x02, 8]), header(100, 5), Buffer.from([0x80, 5]), Buffer.from('hello')]),
    );
    const arrivals = makeArrivals();
    const connection = await dialPlaced(url, init, arrivals.messages);
    await arrivals.wait(1);
    assert.equal(arrivals.memory.toString('latin1', 100, 105), 'hello');
    connection.close('NORMAL', '');
    await connection.closed;
    close();
  });

  test('an error of the handler closes with its code; no later payload is stored', async () => {
    const { near, far, listener, arrivals } = await openPlaced();
    await far.send([header(2 ** 31, 10), Buffer.alloc(10)]);
    far.send([header(0, 10), Buffer.alloc(10, 1)]).catch(() => undefined);
    assert.equal((await near.closed).error?.code, 'FRAME_STALE');
    assert.equal((await far.closed).error?.code, 'FRAME_STALE');
    assert.deepEqual(arrivals.received, []);
    await listener.close();
  });

  test('a plain message is FRAME_INVALID', async () => {
    const { near, far, listener } = await openPlaced();
    await far.send([Buffer.from('one fragment')]);
    assert.equal((await near.closed).error?.code, 'FRAME_INVALID');
    await far.closed;
    await listener.close();
  });

  test('a wrong token is AUTH_FAILED, a response without end CONNECT_FAILED', async () => {
    const listener = await webSocketTransport.listen({
      host: '127.0.0.1',
      port: 0,
      token: TOKEN,
      onConnection: () => undefined,
    });
    await assert.rejects(dialPlaced(listener.url, { ...init, token: 'wrong' }, makeArrivals().messages), {
      code: 'AUTH_FAILED',
    });
    await listener.close();
    const server = createServer((socket) => {
      socket.on('error', () => undefined);
      socket.write(`HTTP/1.1 101 x\r\n${'a: b\r\n'.repeat(10_000)}`);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await assert.rejects(dialPlaced(`ws://127.0.0.1:${port}`, init, makeArrivals().messages), {
      code: 'CONNECT_FAILED',
    });
    server.close();
  });
});

/** A server that shakes hands by hand, sends `glued` in the same write, and then does `then`. */
async function fakeServer(
  then: (socket: Socket) => void,
  glued: Buffer = Buffer.alloc(0),
): Promise<{ url: string; close: () => void }> {
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    socket.once('data', (request: Buffer) => {
      const key = /sec-websocket-key: (.*)\r\n/i.exec(request.toString('latin1'))?.[1] ?? '';
      const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
      const head = `HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: ${accept}\r\n\r\n`;
      socket.write(Buffer.concat([Buffer.from(head), glued]));
      then(socket);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const close = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { url: `ws://127.0.0.1:${port}`, close };
}
