/**
 * Probes the speed of a TCP socket within this host, over which its workers reduce gradients. Sender and receiver share this thread, so two
 * processes are somewhat faster.
 */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { TrainerError } from '../../shared/errors.ts';
import type { Finding } from './finding.ts';
import type { Probe } from './probe.ts';

const TOTAL_BYTES = 256 * 2 ** 20;
const BLOCK_BYTES = 2 ** 20;
const SLOW_BYTES_PER_SECOND = 2e8;

export function judgeLoopback(bytesPerSecond: number): Finding {
  const detail = `${(bytesPerSecond / 1e9).toFixed(2)} GB/s through a TCP socket`;
  const finding = { check: 'loopback', detail, figures: { bytesPerSecond } };
  if (bytesPerSecond >= SLOW_BYTES_PER_SECOND) return { ...finding, status: 'ok' };
  return {
    ...finding,
    status: 'warn',
    advice: 'the machine is busy, or its network stack is emulated: gradients will wait',
  };
}

/** @returns B/s @throws CONNECT_FAILED, ABORTED */
async function measureLoopback(signal: AbortSignal): Promise<number> {
  const server = createServer();
  const sockets: Socket[] = [];
  try {
    const receiver = await listen(server, sockets, signal);
    const sender = sockets[0]!;
    const start = performance.now();
    const received = countTo(receiver, TOTAL_BYTES, signal);
    const block = Buffer.alloc(BLOCK_BYTES, 1);
    for (let sent = 0; sent < TOTAL_BYTES && !signal.aborted; sent += BLOCK_BYTES)
      if (!sender.write(block)) await once(sender, 'drain', { signal });
    await received;
    return TOTAL_BYTES / ((performance.now() - start) / 1000);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
  }
}

/** @returns the server's side; the client's is the first of `sockets` */
async function listen(server: Server, sockets: Socket[], signal: AbortSignal): Promise<Socket> {
  const accepted = once(server, 'connection', { signal }) as Promise<[Socket]>;
  accepted.catch(() => undefined); // awaited below; if listening fails first, that error is reported
  server.listen(0, '127.0.0.1');
  await once(server, 'listening', { signal });
  const address = server.address();
  if (address === null || typeof address === 'string')
    throw new TrainerError('CONNECT_FAILED', '127.0.0.1: expected a port to listen on, got none');
  const sender = connect(address.port, address.address);
  sender.on('error', () => undefined); // then the receiver fails at the deadline
  sockets.push(sender);
  const [receiver] = await accepted;
  sockets.push(receiver);
  return receiver;
}

function countTo(socket: Socket, numBytes: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    let received = 0;
    socket.on('data', (data) => {
      received += data.byteLength;
      if (received >= numBytes) resolve();
    });
    socket.once('error', reject);
    signal.addEventListener('abort', () => reject(new TrainerError('ABORTED', 'the socket stalled')), { once: true });
  });
}

export const loopbackProbe: Probe = {
  check: 'loopback',
  deadlineMs: 30_000,
  run: async (_context, signal) => [judgeLoopback(await measureLoopback(signal))],
};
