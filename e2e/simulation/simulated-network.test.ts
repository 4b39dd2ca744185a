import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { TrainerError } from '../../shared/errors.ts';
import { testTransport } from '../../shared/transport/compliance.ts';
import type { Connection, Listener, ListenInit, Transport } from '../../shared/transport/transport.ts';
import { SimulatedNetwork, type NetworkOptions } from './simulated-network.ts';
import { SimulatedTransport } from './simulated-transport.ts';
import { VirtualTime } from './virtual-clock.ts';
import { VirtualProcess } from './virtual-process.ts';

const TOKEN = 'a token of the test';

describe('the contract of transports', () => {
  // The suite knows nothing of virtual time, so it is driven beside it.
  const time = new VirtualTime();
  let isOver = false;
  let driven: Promise<void>;
  before(() => {
    const beat = (): void => void time.schedule(1, 'the suite goes on', beat);
    beat();
    driven = time.run(() => isOver, { maxEvents: Infinity, maxMs: Infinity });
  });
  after(async () => {
    isOver = true;
    await driven;
  });
  let seed = 0;
  testTransport('simulated', () => {
    const process = new VirtualProcess(time, 'suite');
    return new SimulatedTransport(new SimulatedNetwork(time, seed++), process);
  });
});

interface World {
  readonly time: VirtualTime;
  readonly network: SimulatedNetwork;
  readonly transports: { readonly a: Transport; readonly b: Transport };
  readonly a: VirtualProcess;
  readonly b: VirtualProcess;
  readonly near: Connection;
  readonly far: Connection;
  /** What each side has got, with the time. */
  readonly got: { readonly near: [number, string][]; readonly far: [number, string][] };
  /** How each side ended, with the time. */
  readonly ended: { near?: [number, number]; far?: [number, number] };
  readonly listener: Listener;
}

const say = (connection: Connection, text: string): void => {
  connection.send([Buffer.from(text)]).catch(() => undefined);
};
const texts = (got: readonly [number, string][]): string[] => got.map(([, text]) => text);

/** Process b listens, a has dialled it. */
async function open(seed = 1, options: Partial<NetworkOptions> = {}, init: Partial<ListenInit> = {}): Promise<World> {
  const time = new VirtualTime();
  const network = new SimulatedNetwork(time, seed, options);
  const [a, b] = [new VirtualProcess(time, 'a'), new VirtualProcess(time, 'b')];
  let far: Connection | undefined;
  const transports = { a: new SimulatedTransport(network, a), b: new SimulatedTransport(network, b) };
  const listener = await transports.b.listen({
    host: 'h',
    port: 0,
    token: TOKEN,
    onConnection: (connection) => (far = connection),
    ...init,
  });
  let near: Connection | undefined;
  void transports.a
    .dial(`${listener.url}/p`, { token: TOKEN, timeoutMs: 1_000 })
    .then((connection) => (near = connection));
  await time.run(() => near !== undefined);
  const world: World = {
    time,
    network,
    transports,
    a,
    b,
    near: near!,
    far: far!,
    got: { near: [], far: [] },
    ended: {},
    listener,
  };
  for (const side of ['near', 'far'] as const) {
    world[side].onMessage((data) => world.got[side].push([time.nowMs, Buffer.from(data).toString()]));
    void world[side].closed.then(({ code }) => (world.ended[side] = [time.nowMs, code]));
  }
  return world;
}

describe('simulated network', () => {
  test('messages come in order, each after a delay within the bounds; the seed decides which', async () => {
    const times: number[][] = [];
    for (const seed of [1, 2, 1]) {
      const { time, near, got } = await open(seed, { minDelayMs: 2, maxDelayMs: 9 });
      const startMs = time.nowMs;
      for (let i = 0; i < 30; i++) say(near, `${i}`);
      await time.run(() => got.far.length === 30);
      assert.deepEqual(
        texts(got.far),
        Array.from({ length: 30 }, (_, i) => `${i}`),
      );
      times.push(got.far.map(([ms]) => ms - startMs));
      assert.ok(times.at(-1)!.every((ms) => ms >= 2 && ms <= 9 + 30));
    }
    assert.deepEqual(times[2], times[0]);
    assert.notDeepEqual(times[1], times[0]);
  });

  test('a crash: what was sent comes or is lost as a tail, then both see the end; nobody listens there any more', async () => {
    const outcomes = new Set<number>();
    for (let seed = 0; seed < 20; seed++) {
      const { time, transports, b, near, far, got, ended, listener } = await open(seed);
      for (let i = 0; i < 5; i++) say(far, `${i}`);
      b.crash();
      say(near, 'to the dead');
      await time.run(200);
      assert.deepEqual(texts(got.near), ['0', '1', '2', '3', '4'].slice(0, got.near.length));
      outcomes.add(got.near.length);
      assert.equal(ended.near?.[1], 1006);
      assert.equal(ended.far, undefined, 'nothing of a crashed process goes on');
      assert.deepEqual(got.far, []);
      const again = codeOf(transports.a.dial(listener.url, { token: TOKEN, timeoutMs: 100 }));
      await time.run(time.nowMs + 200);
      assert.equal(await again, 'CONNECT_FAILED');
    }
    assert.ok(outcomes.has(0) && outcomes.has(5), `both a reset and an orderly end: ${[...outcomes].join(', ')}`);
  });

  test('a stopped process buffers, within bounds, and reads on when it is continued', async () => {
    const { time, near, b, got } = await open(1, { kernelBytes: 1000 });
    b.stop();
    const taken: number[] = [];
    for (let i = 0; i < 5; i++)
      near.send([Buffer.alloc(400, `${i}`)]).then(
        () => taken.push(i),
        () => undefined,
      );
    await time.run(time.nowMs + 100);
    assert.deepEqual([taken, got.far], [[0, 1], []]);
    b.continue();
    await time.run(time.nowMs + 100);
    assert.deepEqual(taken, [0, 1, 2, 3, 4]);
    assert.deepEqual(
      got.far.map(([, text]) => text[0]),
      ['0', '1', '2', '3', '4'],
    );
  });

  test('a stopped process answers no dial until it is continued; who waits gives up in time', async () => {
    const { time, transports, b, listener } = await open();
    const transport = transports.a;
    b.stop();
    const late = codeOf(transport.dial(listener.url, { token: TOKEN, timeoutMs: 50 }));
    const patient = codeOf(transport.dial(listener.url, { token: TOKEN, timeoutMs: 500 }));
    await time.run(time.nowMs + 100);
    assert.equal(await late, 'CONNECT_FAILED');
    b.continue();
    await time.run(time.nowMs + 50);
    assert.equal(await patient, 'open');
  });

  test('a connection that is cut is over for both, each at its time', async () => {
    const { time, network, near, got, ended } = await open();
    network.cut(network.connections()[0]!);
    say(near, 'too late');
    await time.run(time.nowMs + 60);
    assert.deepEqual([ended.near?.[1], ended.far?.[1]], [1006, 1006]);
    assert.notEqual(ended.near?.[0], ended.far?.[0]);
    assert.deepEqual([got.far, network.connections().length], [[], 1]);
    await codeAfter(near.send([Buffer.from('x')]), 'CONNECTION_LOST');
  });

  test('half-open: one side knows, the other one waits', async () => {
    const { time, network, far, got, ended } = await open();
    network.halfOpen(network.connections()[0]!, 'near', 10_000);
    await time.run(time.nowMs + 100);
    assert.deepEqual([ended.near?.[1], ended.far, far.isOpen], [1006, undefined, true]);
    const taken = far.send([Buffer.from('into nothing')]);
    await time.run(time.nowMs + 10);
    await taken;
    await time.run(time.nowMs + 11_000);
    assert.deepEqual([ended.far?.[1], got.near], [1006, []]);
  });

  test('a partition holds messages and dials back until it heals', async () => {
    const { time, network, transports, a, b, near, far, got, listener } = await open();
    const startMs = time.nowMs;
    network.partition(a, b, 300, 'held');
    for (const text of ['x', 'y']) say(near, text);
    say(far, 'z');
    const late = codeOf(transports.a.dial(listener.url, { token: TOKEN, timeoutMs: 100 }));
    const patient = codeOf(transports.a.dial(listener.url, { token: TOKEN, timeoutMs: 500 }));
    await time.run(startMs + 299);
    assert.deepEqual([got.near, got.far, await late], [[], [], 'CONNECT_FAILED']);
    await time.run(startMs + 350);
    assert.deepEqual([texts(got.near), texts(got.far), await patient], [['z'], ['x', 'y'], 'open']);
  });

  test('a partition of one from all can break what it has, and leaves others alone', async () => {
    const { time, network, a, b, ended } = await open();
    const bystander = new VirtualProcess(time, 'c');
    network.partition(bystander, null, 100, 'broken');
    assert.deepEqual([network.isBlocked(a, b), network.isBlocked(a, bystander)], [false, true]);
    await time.run(time.nowMs + 200);
    assert.deepEqual([ended, network.isBlocked(a, bystander)], [{}, false]);
    network.partition(a, null, 100, 'broken');
    await time.run(time.nowMs + 60);
    assert.deepEqual([ended.near?.[1], ended.far?.[1]], [1006, 1006]);
  });

  test('one bit of the next message above a size is flipped, once', async () => {
    const { time, network, far, got } = await open();
    const zeros = (size: number): string => Buffer.alloc(size).toString();
    network.corruptNext(network.connections()[0]!, 10);
    for (const size of [10, 11, 12]) say(far, zeros(size));
    await time.run(time.nowMs + 100);
    assert.equal(network.numBitsFlipped, 1);
    const [first, second, third] = texts(got.near);
    assert.deepEqual([first, third], [zeros(10), zeros(12)]);
    assert.notEqual(second, zeros(11));
  });

  test('an abort of a dial that was accepted ends the other side', async () => {
    const { time, network, transports, listener } = await open();
    const stop = new AbortController();
    const dialled = codeOf(transports.a.dial(listener.url, { token: TOKEN, timeoutMs: 500, signal: stop.signal }));
    await time.run(() => network.connections().length === 2);
    stop.abort();
    assert.equal(await dialled, 'ABORTED');
    const { far } = network.connections()[1]!;
    await time.run(time.nowMs + 100);
    assert.equal(far.isOpen, false);
  });
});

async function codeOf(dialled: Promise<Connection>): Promise<string> {
  try {
    await dialled;
    return 'open';
  } catch (error) {
    return (error as TrainerError).code;
  }
}

async function codeAfter(promise: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(promise, { code });
}
