/** Strangers send bytes to the ports of a run: its bits stay the same, it does not stop, and its memory does not grow. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import { encodeMessage } from '../shared/protocol/codec.ts';
import { exmix, finalDigest, readLog, startExmix, temporaryFolder, TINY } from './exmix-process.ts';

const STEPS = '60';
const MAX_GROWTH_BYTES = 50 * 2 ** 20;
const SOCKETS_OF_A_KIND = 25;

const folder = temporaryFolder();
const home = join(folder, 'home');

interface Port {
  readonly host: string;
  readonly port: number;
}

/** Resident memory of a process, bytes; 0 if it has ended. */
function residentBytes(pid: number): number {
  try {
    const kilobytes = /VmRSS:\s+(\d+) kB/u.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Number(kilobytes ?? 0) * 1024;
  } catch {
    return 0;
  }
}

/** Ports on which the processes listen, from /proc. */
function listeningPorts(pids: readonly number[]): number[] {
  const own = new Set(pids.flatMap(socketInodes));
  const sockets = readFileSync('/proc/net/tcp', 'utf8')
    .split('\n')
    .map((line) => line.trim().split(/\s+/u));
  const listening = sockets.filter(([, , , state, , , , , , inode]) => state === '0A' && own.has(inode!));
  return listening.map(([, local]) => Number.parseInt(local!.split(':')[1]!, 16));
}

function socketInodes(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return /^socket:\[(\d+)\]$/u.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
    } catch {
      return []; // it has just been closed
    }
  });
}

function open({ host, port }: Port): Socket {
  return connect(port, host).on('error', () => undefined); // the run closes these sockets
}

const upgrade = (token: string, path = '/') =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
  `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\nAuthorization: Bearer ${token}\r\n\r\n`;

/** Attacks without the token, over one socket each. */
const ATTACKS: Readonly<Record<string, (port: Port) => void>> = {
  'random bytes': (port) => open(port).end(randomBytes(65_536)),
  'a wrong token': (port) => void open(port).write(upgrade('wrong-wrong-wrong-wrong')),
  'no end of headers': (port) => {
    const socket = open(port);
    socket.write('GET / HTTP/1.1\r\n');
    const drip = setInterval(() => socket.write(`X-${'a'.repeat(512)}: b\r\n`), 20);
    socket.once('close', () => clearInterval(drip));
  },
  'a byte now and then': (port) => {
    const socket = open(port);
    const request = upgrade('slow-slow-slow-slow-slow');
    let at = 0;
    const drip = setInterval(() => socket.write(request[at++ % request.length]!), 50);
    socket.once('close', () => clearInterval(drip));
  },
  'a frame before the handshake': (port) =>
    open(port).end(Buffer.concat([Buffer.from([0x82, 127]), Buffer.alloc(8, 0x7f), randomBytes(1024)])),
  'a path of a data link': (port) => void open(port).write(upgrade('wrong-wrong-wrong-wrong', '/data/1/1/0/1')),
};

interface Observed {
  readonly digest: string;
  /** Resident memory at step 30: coordinator, then workers, bytes. */
  readonly bytes: readonly number[];
}

/** Trains the tiny model and calls `disturb` after its first step. */
async function observe(
  name: string,
  disturb: (run: string, pids: readonly number[]) => Promise<void>,
): Promise<Observed> {
  const run = join(folder, name);
  const running = startExmix(['train', '--config', TINY, '--run-dir', run, '--workers', '2', '--steps', STEPS], home);
  await running.printed(/step 1\//u);
  const workers = readLog(run).flatMap((record) => (record.msg === 'worker started' ? [Number(record['pid'])] : []));
  const pids = [running.child.pid!, ...workers];
  await disturb(run, pids);
  await running.printed(/step 30\//u);
  const bytes = pids.map(residentBytes);
  const { code, stdout, stderr } = await running.ended;
  assert.equal(code, 0, stdout + stderr);
  return { digest: finalDigest(run), bytes };
}

describe('a hostile peer', () => {
  let undisturbed: Observed;

  before(async () => {
    // Prepare first: a coordinator that also prepares the mixture needs more memory.
    const { code, stdout, stderr } = await exmix(['prepare', '--mixture', 'deploy/demo/mixture.yaml'], home);
    assert.equal(code, 0, stdout + stderr);
    undisturbed = await observe('undisturbed', () => Promise.resolve());
  });

  test('at every port of coordinator and workers changes neither the digest nor the memory', async () => {
    let closeCodes: number[] = [];
    const attacked = await observe('attacked', async (run, pids) => {
      const url = new URL((JSON.parse(readFileSync(join(run, 'coordinator.json'), 'utf8')) as { url: string }).url);
      const ports = listeningPorts(pids).map((port) => ({ host: '127.0.0.1', port }));
      assert.ok(
        ports.some(({ port }) => port === Number(url.port)),
        'the coordinator listens',
      );
      assert.ok(ports.length >= 3, `coordinator and two workers listen, found ${ports.length} ports`);
      // The first one comes alone, because the log reports only some of many refusals.
      const stranger = open({ host: '127.0.0.1', port: Number(url.port) }).resume();
      stranger.write(upgrade('wrong-wrong-wrong-wrong'));
      await once(stranger, 'close');
      for (const attack of Object.values(ATTACKS))
        for (const port of ports) for (let i = 0; i < SOCKETS_OF_A_KIND; i++) attack(port);
      closeCodes = await sendAsInsider(run, url);
    });
    assert.equal(attacked.digest, undisturbed.digest);
    assert.equal(closeCodes.length, 4, 'the insider was disconnected four times');
    for (const [i, bytes] of attacked.bytes.entries()) {
      const growth = bytes - undisturbed.bytes[i]!;
      assert.ok(bytes > 0 && growth < MAX_GROWTH_BYTES, `process ${i} is ${growth} B larger than undisturbed`);
    }
    assert.ok(
      closeCodes.every((code) => code === 1009 || code >= 4000),
      `closed with codes: ${closeCodes.join(', ')}`,
    );
    const refused = readLog(join(folder, 'attacked')).filter((record) => record.msg === 'connection refused');
    assert.ok(refused.some((record) => record['code'] === 'AUTH_FAILED'));
  });
});

/** Sends invalid messages with the right token; each connection must be closed with a code. @returns the close codes */
async function sendAsInsider(run: string, url: URL): Promise<number[]> {
  const { token } = JSON.parse(readFileSync(join(run, 'coordinator.json'), 'utf8')) as { token: string };
  const heartbeat = encodeMessage({ kind: 'heartbeat', progress: 0, phase: 'waiting', step: 0 });
  const payloads = [randomBytes(512), Buffer.alloc(8 * 2 ** 20), heartbeat, 'text in place of bytes'];
  return Promise.all(
    payloads.map(async (payload) => {
      const socket = new WebSocket(url, { headers: { authorization: `Bearer ${token}` }, perMessageDeflate: false });
      socket.on('error', () => undefined); // the close code is checked
      await once(socket, 'open');
      socket.send(payload);
      const [code] = (await once(socket, 'close')) as [number];
      return code;
    }),
  );
}
