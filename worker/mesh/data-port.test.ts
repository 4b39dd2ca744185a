import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import type { Connection, Refusal } from '../../shared/transport/transport.ts';
import { DataPort, formatStatePath } from './data-port.ts';

const SECRET = Buffer.alloc(32, 1);
const IDENTITY = { epoch: 1, generation: 7, rank: 0, worldSize: 3, secret: SECRET };

interface World {
  readonly port: DataPort;
  readonly refusals: Refusal[];
  readonly dial: (path: string, secret?: Uint8Array) => Promise<Connection>;
}

async function openPort(): Promise<World> {
  const transport = new MemoryTransport();
  const refusals: Refusal[] = [];
  const port = await DataPort.open({
    transport,
    host: '127.0.0.1',
    port: 0,
    onRefused: (refusal) => refusals.push(refusal),
  });
  const dial = (path: string, secret: Uint8Array = SECRET): Promise<Connection> =>
    transport.dial(port.url + path, { secret, timeoutMs: 2000 });
  return { port, refusals, dial };
}

describe('state connections at the data port', () => {
  test('are handed over with the rank of the peer, whether or not a mesh is being connected', async () => {
    const { port, dial } = await openPort();
    const peers: number[] = [];
    port.serve('state', IDENTITY, (connection, peer) => {
      assert.equal(connection.path, formatStatePath(IDENTITY, 0, peer));
      peers.push(peer);
    });
    await dial('/state/1/7/0/1');
    const expected = port.expect(IDENTITY);
    await dial('/state/1/7/0/2');
    await dial('/data/1/7/0/1');
    assert.deepEqual(peers, [1, 2]);
    assert.deepEqual(expected.missing, [2], 'a state connection is none of the mesh');
    port.stopAdmitting(expected);
    await assert.rejects(dial('/data/1/7/0/2'), { message: /no generation is being connected/ });
    await port.close();
  });

  test('of any other process are refused before the handler is called', async () => {
    const { port, refusals, dial } = await openPort();
    const peers: number[] = [];
    port.expect(IDENTITY);
    await assert.rejects(dial('/state/1/7/0/1'), { code: 'CONNECT_FAILED', message: /no state is served here now/ });
    port.serve('state', IDENTITY, (_, peer) => peers.push(peer));
    await dial('/state/1/7/0/1');
    for (const [path, message] of [
      ['/state/2/7/0/2', /expected epoch 1 generation 7, got epoch 2 generation 7/],
      ['/state/1/6/0/2', /expected epoch 1 generation 7, got epoch 1 generation 6/],
      ['/state/1/7/1/2', /this is rank 0, not rank 1/],
      ['/state/1/7/0/0', /rank 0 is no peer/],
      ['/state/1/7/0/3', /rank 3 is no peer of rank 0 in a world of 3/],
      ['/state/1/7/0/1', /rank 1 has a state connection of generation 7 already/],
      ['/state/1/7/0', /expected a path/],
      ['/stated/1/7/0/2', /expected a path/],
    ] as const)
      await assert.rejects(dial(path), { code: 'CONNECT_FAILED', message, retryable: true });
    await assert.rejects(dial('/state/1/7/0/2', Buffer.alloc(32, 2)), { code: 'AUTH_FAILED' });
    assert.equal(refusals.length, 10);
    assert.deepEqual(peers, [1]);
    await port.close();
  });

  test('may be made again by a peer that has left', async () => {
    const { port, dial } = await openPort();
    const peers: number[] = [];
    port.serve('state', IDENTITY, (_, peer) => peers.push(peer));
    const first = await dial('/state/1/7/0/1');
    first.close('NORMAL', 'begins again');
    await first.closed;
    await dial('/state/1/7/0/1');
    assert.deepEqual(peers, [1, 1]);
    await port.close();
  });

  test('are of the generation served last, until it is stopped; those that are open stay', async () => {
    const { port, dial } = await openPort();
    const older = port.serve('state', IDENTITY, () => undefined);
    const open = await dial('/state/1/7/0/1');
    const newer = port.serve('state', { ...IDENTITY, generation: 8 }, () => undefined);
    port.stopAdmitting(older);
    await assert.rejects(dial('/state/1/7/0/2'), { message: /expected epoch 1 generation 8/ });
    await dial('/state/1/8/0/1');
    port.stopAdmitting(newer);
    await assert.rejects(dial('/state/1/8/0/2'), { message: /no state is served here now/ });
    assert.ok(open.isOpen);
    await port.close();
    assert.ok(!open.isOpen);
  });
});
