import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { systemClock, type Clock } from '../../shared/clock.ts';
import { ManualClock, rest } from '../../shared/manual-clock.fixture.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import type { Connection, Transport } from '../../shared/transport/transport.ts';
import { webSocketTransport } from '../../shared/transport/websocket-transport.ts';
import { DataPort } from './data-port.ts';
import { probeLinks, type ProbePeer } from './probe-links.ts';

const SECRET = Buffer.alloc(32, 1);
/** Longer than any test: a trial that ends at its deadline has failed. */
const LONG_MS = 120_000;

/** Data ports of a worker on trial (0) and of members, and their trials. */
async function openPorts(transport: Transport, numMembers: number, clock: Clock = systemClock) {
  const ports: DataPort[] = [];
  for (let i = 0; i <= numMembers; i++) ports.push(await DataPort.open({ transport, host: '127.0.0.1', port: 0 }));
  const over = new AbortController();
  const peer = (rank: number): ProbePeer => ({
    workerId: `w${rank}`,
    rank,
    url: ports[rank]!.announce(`${transport.scheme}://127.0.0.1:${ports[rank]!.port}`),
  });
  const peersOf = (rank: number): ProbePeer[] => (rank > 0 ? [peer(0)] : ports.slice(1).map((_, i) => peer(i + 1)));
  const probe = (rank: number, { secret = SECRET, timeoutMs = LONG_MS, peers = peersOf(rank) } = {}) =>
    probeLinks({
      ...{ epoch: 1, trial: 3, rank, secret, peers, transport, timeoutMs, clock },
      port: ports[rank]!,
      socket: 'auto',
      signal: over.signal,
    });
  const close = async (): Promise<void> => {
    over.abort();
    await Promise.all(ports.map((port) => port.close()));
  };
  return { ports, peer, probe, over, close };
}

describe('probeLinks', () => {
  for (const [name, transport] of [
    ['memory', new MemoryTransport()],
    ['WebSockets', webSocketTransport],
  ] as const)
    test(`over ${name}: all links work, whoever begins last`, async () => {
      const { probe, close } = await openPorts(transport, 3);
      const first = [1, 2].map((rank) => probe(rank));
      const worker = probe(0);
      await rest();
      assert.deepEqual(await Promise.all([...first, worker, probe(3)]), Array(4).fill(undefined));
      await close();
    });

  test('each side names the peer that does not answer, at the deadline', async () => {
    const clock = new ManualClock();
    const { ports, probe, close } = await openPorts(new MemoryTransport(), 2, clock);
    const faults = [0, 1, 2].map((rank) => probe(rank, { timeoutMs: 1_000 }));
    await ports[2]!.close();
    const [worker, good] = await clock.during(Promise.all(faults));
    assert.equal(worker?.code, 'CONNECT_FAILED');
    assert.match(worker.message, /^no link to w2 at memory:\/\/127\.0\.0\.1:\d+ \(.+\)$/u);
    assert.equal(good, undefined);
    await close();
  });

  test('a link over which the message does not come fails at the deadline', async () => {
    const clock = new ManualClock();
    const transport = new MemoryTransport();
    const { ports, peer, probe, close } = await openPorts(transport, 1, clock);
    const accepted: Connection[] = [];
    const identity = { epoch: 1, generation: 3, rank: 1, worldSize: 2, secret: SECRET };
    ports[1]!.serve('probe', identity, (connection) => void accepted.push(connection));
    const fault = await clock.during(probe(0, { timeoutMs: 1_000, peers: [peer(1)] }));
    assert.equal(accepted.length, 1);
    assert.match(fault?.message ?? '', /^no link to w1 at .+ \(no answer within 1000 ms\)$/u);
    await close();
  });

  test('a peer with another secret is refused at once', async () => {
    const { probe, close } = await openPorts(new MemoryTransport(), 1);
    void probe(1);
    const fault = await probe(0, { secret: Buffer.alloc(32, 2) });
    assert.match(fault?.message ?? '', /^no link to w1 at /u);
    await close();
  });

  test('peers are admitted until the deadline, and not after it', async () => {
    const clock = new ManualClock();
    const transport = new MemoryTransport();
    const { ports, probe, close } = await openPorts(transport, 1, clock);
    const [worker, member] = await clock.during(Promise.all([probe(0), probe(1)]));
    assert.deepEqual([worker, member], [undefined, undefined]);
    const dial = () => transport.dial(`${ports[1]!.url}/probe/1/3/1/0`, { secret: SECRET, timeoutMs: 2_000 });
    const late = await dial();
    await clock.advance(LONG_MS);
    assert.equal((await late.closed).code, 1000);
    await assert.rejects(dial(), { message: /no link is on trial here now/u });
    await close();
  });

  test('an abort ends it, and its connections', async () => {
    const { probe, over, close } = await openPorts(new MemoryTransport(), 1);
    const probing = probe(0);
    over.abort();
    await assert.rejects(probing, { code: 'ABORTED' });
    await close();
  });
});
