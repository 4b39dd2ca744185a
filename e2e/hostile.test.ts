/**
 * Strangers send bytes to the ports of a run and put files beside its own, members with the token break the protocol: the bits of the run stay
 * the same, it does not stop, and its memory does not grow. EXMIX_ATTACKS is the number of runs under each attacker.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, watch, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { before, describe, test } from 'node:test';
import { WebSocket } from 'ws';
import type { LogRecord } from '../shared/logger.ts';
import { encodeMessage } from '../shared/protocol/codec.ts';
import { PROTOCOL_VERSION } from '../shared/protocol/messages.ts';
import { VERSION } from '../shared/version.ts';
import { exmix, finalDigest, readLog, startExmix, temporaryFolder, TINY } from './exmix-process.ts';

const STEPS = '60';
const MAX_GROWTH_BYTES = 50 * 2 ** 20;
const SOCKETS_OF_A_KIND = 25;
const NUM_ATTACKS = Number(process.env['EXMIX_ATTACKS'] ?? 1);

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
  'a nonce of a data link, then bytes that prove nothing': (port) => {
    const socket = open(port);
    const nonce = `exmix-nonce: ${randomBytes(32).toString('hex')}\r\n\r\n`;
    socket.write(upgrade('x', '/data/1/2/0/1').replace(/Authorization: .*\r\n\r\n$/u, nonce));
    socket.write(randomBytes(100));
  },
  'a frame of 16 MiB before a proof': (port) => {
    const socket = open(port);
    const nonce = `exmix-nonce: ${randomBytes(32).toString('hex')}\r\n\r\n`;
    socket.write(upgrade('x', '/state/1/2/0/1').replace(/Authorization: .*\r\n\r\n$/u, nonce));
    socket.write(Buffer.concat([Buffer.from('82ff000000000100000000000000', 'hex'), Buffer.alloc(65_536)]));
  },
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

  for (let number = 1; number <= NUM_ATTACKS; number++) {
    test(`with files in /dev/shm and floods while a generation is formed changes nothing (${number})`, async () => {
      const name = `local-${number}`;
      const shared = new SharedMemory();
      const attacked = await observe(name, async (run, pids) => {
        shared.occupy();
        const flood = setInterval(() => {
          for (const port of listeningPorts(pids.filter((pid) => residentBytes(pid) > 0)))
            for (const attack of Object.values(ATTACKS)) attack({ host: '127.0.0.1', port });
        }, 500);
        process.kill(pids.at(-1)!, 'SIGKILL'); // the next generation is formed under attack
        await logged(
          run,
          (record) => record.msg === 'generation formed' && record['worldSize'] === 2 && record['generation'] !== 1,
        );
        clearInterval(flood);
      }).finally(() => shared.remove());
      assert.equal(attacked.digest, undisturbed.digest);
      assert.ok(shared.numMade > 0, 'files were made');
      assertHealthy(name);
      assertRefused(name, ['AUTH_FAILED']);
    });

    test(`with the token, as a member that breaks the protocol, changes nothing (${number})`, async () => {
      const name = `member-${number}`;
      let closeCodes: number[] = [];
      const attacked = await observe(name, async (run) => {
        const url = new URL((JSON.parse(readFileSync(join(run, 'coordinator.json'), 'utf8')) as { url: string }).url);
        closeCodes = await joinAsInsider(run, url);
      });
      assert.equal(attacked.digest, undisturbed.digest);
      assert.deepEqual(closeCodes, [...INSIDERS.map(({ code }) => code)]);
      assertHealthy(name);
      const closed = readLog(join(folder, name)).filter((record) => record.msg === 'connection closed');
      const codes = new Set(closed.map((record) => record['code']));
      assert.deepEqual([...codes].sort(), ['MESSAGE_INVALID', 'MESSAGE_TOO_LARGE']);
    });
  }
});

/** Files in the folder of the outboxes under every name that a local user could guess. */
class SharedMemory {
  readonly #paths: string[] = [];

  get numMade(): number {
    return this.#paths.length;
  }

  occupy(): void {
    const sockets = [...readFileSync('/proc/net/unix', 'latin1').matchAll(/@(exmix-[0-9a-f]{32})/gu)].map(
      ([, name]) => name!,
    );
    const own = new Set(sockets);
    const fifos: string[] = [];
    for (const socket of own)
      for (const epoch of [1, 2])
        for (let generation = 2; generation < 20; generation++) {
          const path = `/dev/shm/${socket}.${epoch}.${generation}`;
          this.#paths.push(path);
          if (generation % 3 === 0) fifos.push(path);
          else if (generation % 3 === 1) writeFileSync(path, '');
          else symlinkSync('/dev/zero', path);
        }
    if (fifos.length > 0) execFileSync('mkfifo', fifos);
  }

  remove(): void {
    for (const path of this.#paths) rmSync(path, { force: true });
  }
}

/** Resolves when the coordinator's log has such a record. */
async function logged(run: string, passes: (record: LogRecord) => boolean): Promise<void> {
  const changes = watch(join(run, 'coordinator.jsonl'));
  try {
    while (!readLog(run).some(passes)) await once(changes, 'change');
  } finally {
    changes.close();
  }
}

/** No worker was left out, and none was found to hang. */
function assertHealthy(name: string): void {
  const records = readLog(join(folder, name));
  for (const msg of ['worker left out', 'worker excluded'])
    assert.deepEqual(
      records.filter((record) => record.msg === msg),
      [],
    );
  const hung = records.filter((record) =>
    /silent for|not formed within|hangs/u.test(JSON.stringify(record['reason'] ?? '')),
  );
  assert.deepEqual(hung, []);
}

function assertRefused(name: string, codes: readonly string[]): void {
  const refused = readLog(join(folder, name)).filter((record) => record.msg === 'connection refused');
  for (const code of codes)
    assert.ok(
      refused.some((record) => record['code'] === code),
      `${code} is logged`,
    );
}

const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const MIB_16 = 16 * 2 ** 20 - 64;
const FOREIGN = { generation: 9, step: 1, gradDigest: 1, gradSumOfSquares: 1, lanes: [] };
const TIMES = { feed: 1, compute: 1, communicate: 1, update: 1, total: 1 };

/** What a member with the token sends, after its `join` where it says so, and how it is closed. */
const INSIDERS: readonly {
  readonly joins: boolean;
  readonly dataUrl?: string;
  readonly payload?: Uint8Array;
  readonly code: number;
}[] = [
  { joins: true, dataUrl: 'ws://127.0.0.1:9/internal/admin?delete=all&x=', code: 4002 },
  { joins: true, dataUrl: 'ws://user:word@127.0.0.1:9', code: 4002 },
  { joins: true, dataUrl: 'http://127.0.0.1:9', code: 4002 },
  { joins: false, payload: Buffer.alloc(5_000, 0xc0), code: 4003 },
  { joins: false, payload: Buffer.concat([Buffer.from([0x81, 0xc7, 0x20, 0x42]), Buffer.alloc(33, 0x7f)]), code: 4002 },
  {
    joins: true,
    payload: Buffer.concat([Buffer.from([0x81, 0xc9]), u32(MIB_16), Buffer.alloc(MIB_16, 0x42)]),
    code: 4003,
  },
  { joins: true, payload: Buffer.alloc(MIB_16, 0x91), code: 4003 },
  { joins: true, payload: Buffer.alloc(3_000, 0x91), code: 4002 },
  { joins: true, payload: encodeMessage({ kind: 'report', epoch: 7, ...FOREIGN, ms: TIMES }), code: 4002 },
  { joins: true, payload: encodeMessage({ kind: 'report', epoch: 1, ...FOREIGN, ms: TIMES }), code: 4002 },
  { joins: true, payload: encodeMessage({ kind: 'aborted', epoch: 1, generation: 99, step: 3 }), code: 4002 },
];

/** Each on a connection of its own. @returns the close codes, in their order */
async function joinAsInsider(run: string, url: URL): Promise<number[]> {
  const { token } = JSON.parse(readFileSync(join(run, 'coordinator.json'), 'utf8')) as { token: string };
  const codes: number[] = [];
  for (const [i, { joins, dataUrl = 'ws://127.0.0.1:9', payload }] of INSIDERS.entries()) {
    const socket = new WebSocket(url, { headers: { authorization: `Bearer ${token}` }, perMessageDeflate: false });
    socket.on('error', () => undefined); // the close code is checked
    const closed = once(socket, 'close') as Promise<[number]>;
    await once(socket, 'open');
    const self = { version: VERSION, workerId: `insider-${i}`, host: 'h', pid: 1, processId: `p${i}`, dataUrl };
    if (joins) socket.send(encodeMessage({ kind: 'join', protocolVersion: PROTOCOL_VERSION, ...self }));
    if (payload !== undefined) {
      if (joins) await once(socket, 'message'); // the welcome
      socket.send(payload);
    }
    codes.push((await closed)[0]);
  }
  return codes;
}

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
