/** The memory of gradients from generation to generation, over links that take their time to go. */
import assert from 'node:assert/strict';
import { describe, test, type TestContext } from 'node:test';
import { systemClock } from '../../shared/clock.ts';
import { checkConfig } from '../../shared/config/load-config.ts';
import type { Member } from '../../shared/protocol/messages.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import { ArenaPool } from '../arena/arena.ts';
import type { Connection, DialInit } from '../../shared/transport/transport.ts';
import { DataPlane, type Formed, planDataHosts, type DataHostsInit } from './data-plane.ts';
import { formOf, nobody, RAW_CONFIG, SECRET } from './network-session.fixture.ts';

const config = checkConfig(RAW_CONFIG, 'the test');
const never = new AbortController().signal;

/** Connections that have been closed are gone only when the test says so. */
class SlowTransport extends MemoryTransport {
  release!: () => void;
  readonly #released = new Promise<void>((resolve) => (this.release = resolve));

  override async dial(url: string, init: DialInit): Promise<Connection> {
    const connection = await super.dial(url, init);
    const closed = connection.closed.then(async (info) => {
      await this.#released;
      return info;
    });
    return new Proxy(connection, {
      get(target, key) {
        if (key === 'closed') return closed;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }
}

async function openTwo(t: TestContext, transport: MemoryTransport) {
  const planes = [0, 1].map(() => {
    const data = { listenHost: '127.0.0.1', listenPort: 0, advertiseHost: '127.0.0.1' };
    return new DataPlane({
      data,
      transport,
      clock: systemClock,
      arenas: new ArenaPool(1),
      onRefused: () => undefined,
      onNoOutbox: () => undefined,
    });
  });
  t.after(() => Promise.all(planes.map((plane) => plane.close())));
  const members: Member[] = [];
  for (const [rank, plane] of planes.entries())
    members.push({
      workerId: `w${rank}`,
      rank,
      host: 'h',
      dataUrl: await plane.listen('127.0.0.1'),
      lanes: { first: 2 * rank, end: 2 * rank + 2 },
    });
  const formBoth = (generation: number): Promise<Formed[]> =>
    Promise.all(
      planes.map((plane, rank) => plane.form({ form: formOf(members, rank, { generation }), config, signal: never })),
    );
  return { planes, members, formBoth };
}

const closeAll = (formed: readonly Formed[]): void => {
  for (const { collective } of formed) collective.close();
};
const allBytes = ({ arena }: Formed): Uint8Array => new Uint8Array(arena.memory.buffer);

describe('data plane', { timeout: 240_000 }, () => {
  test('a generation’s memory is used again, zeroed, when its channels are closed, and not before', async (t) => {
    const transport = new SlowTransport();
    const { formBoth } = await openTwo(t, transport);
    const first = await formBoth(1);
    for (const formed of first) allBytes(formed).fill(7);
    closeAll(first);
    let isFormed = false;
    const forming = formBoth(2).finally(() => (isFormed = true));
    for (let i = 0; i < 50; i++) await new Promise(setImmediate);
    assert.ok(!isFormed, 'a link of generation 1 may still be written from');
    assert.ok(first.every((formed) => allBytes(formed).every((byte) => byte === 7)));
    transport.release();
    const second = await forming;
    for (const [rank, formed] of second.entries()) {
      assert.equal(formed.arena.memory, first[rank]!.arena.memory);
      assert.ok(allBytes(formed).every((byte) => byte === 0));
    }
    closeAll(second);
  });

  test('a generation that could not be connected leaves the memory to the next one', async (t) => {
    const { planes, members, formBoth } = await openTwo(t, new MemoryTransport());
    const first = await formBoth(1);
    closeAll(first);
    const stop = new AbortController();
    const form = formOf([members[0]!, nobody], 0, { generation: 2 });
    const called = planes[0]!.form({ form, config, signal: stop.signal });
    setImmediate(() => stop.abort());
    await assert.rejects(called, { code: 'ABORTED' });
    await assert.rejects(planes[0]!.form({ form, config, signal: AbortSignal.abort() }), { code: 'ABORTED' });
    const third = await formBoth(3);
    for (const [rank, { arena }] of third.entries()) assert.equal(arena.memory, first[rank]!.arena.memory);
    closeAll(third);
  });

  test('a generation with more lanes on this rank gets a larger memory, and one with fewer keeps it', async (t) => {
    const { planes, members, formBoth } = await openTwo(t, new MemoryTransport());
    const first = await formBoth(1);
    closeAll(first);
    const larger = { ...config, training: { ...config.training, numLanes: 1024 } };
    const alone = [{ ...members[0]!, lanes: { first: 0, end: 1024 } }];
    const form = formOf(alone, 0, { generation: 2 });
    const second = await planes[0]!.form({ form, config: larger, signal: never });
    assert.ok(second.arena.layout.totalBytes > first[0]!.arena.layout.totalBytes);
    assert.notEqual(second.arena.memory, first[0]!.arena.memory);
    second.collective.close();
    const third = await formBoth(3);
    assert.equal(third[0]!.arena.memory, second.arena.memory);
    closeAll(third);
  });

  test('a state is asked for from the form on until it is withdrawn, of that generation only', async (t) => {
    const transport = new MemoryTransport();
    const { planes, members } = await openTwo(t, transport);
    const alone = [
      { ...members[0]!, lanes: { first: 0, end: 4 } },
      { ...members[1]!, lanes: { first: 4, end: 4 } },
    ];
    const stop = new AbortController();
    const form = formOf(alone, 0, { generation: 2, receivers: [1] });
    const forming = planes[0]!.form({ form, config, signal: stop.signal }).catch(() => undefined);
    const ask = (generation: number): Promise<Connection> =>
      transport.dial(`${members[0]!.dataUrl}/state/5/${generation}/0/1`, { secret: SECRET, timeoutMs: 1_000 });
    await assert.rejects(ask(1), { message: /expected epoch 5 generation 2/u });
    const connection = await ask(2);
    planes[0]!.withdrawState();
    assert.equal((await connection.closed).code, 1000);
    await assert.rejects(ask(2), { message: /no state is served here now/u });
    stop.abort();
    await forming;
  });
});

describe('planDataHosts', () => {
  const NOTHING: DataHostsInit = {
    listen: undefined,
    advertise: undefined,
    socketAddress: '10.0.0.2',
    ownOfAdvertised: [],
  };
  for (const [what, given, listen, advertise] of [
    ['nothing', {}, '10.0.0.2', '10.0.0.2'],
    ['nothing, where the coordinator is on this host', { socketAddress: '127.0.0.1' }, '127.0.0.1', '127.0.0.1'],
    ['nothing, over IPv6', { socketAddress: '2001:db8::2' }, '2001:db8::2', '2001:db8::2'],
    ['nothing, over a transport without addresses', { socketAddress: undefined }, '127.0.0.1', '127.0.0.1'],
    ['--listen', { listen: '10.1.0.2' }, '10.1.0.2', '10.1.0.2'],
    ['--listen on all addresses', { listen: '0.0.0.0' }, '0.0.0.0', '10.0.0.2'],
    ['--listen on all addresses, and --advertise', { listen: '::', advertise: 'node-2' }, '::', 'node-2'],
    ['--advertise of a gateway', { advertise: 'gateway' }, '10.0.0.2', 'gateway'],
    ['--advertise of an own address', { advertise: 'ib-2', ownOfAdvertised: ['10.9.0.2'] }, '10.9.0.2', 'ib-2'],
  ] as const)
    test(`given ${what}: binds ${listen}, announces ${advertise}`, () => {
      assert.deepEqual(planDataHosts({ ...NOTHING, ...given }), { listen, advertise });
    });
});
