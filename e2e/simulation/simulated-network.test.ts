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

describe('the compliance suite of transports', () => {
  // The suite does not advance virtual time, so a driver runs beside it.
  const time = new VirtualTime();
  let isOver = false;
  let driven: Promise<void>;
  before(() => {
    const beat = (): void => void time.schedule(1, 'the suite continues', beat);
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
  /** Messages received by each side, with their times. */
  readonly received: { readonly near: [number, string][]; readonly far: [number, string][] };
  /** Time and close code of each side. */
  readonly ended: { near?: [number, number]; far?: [number, number] };
  readonly listener: Listener;
}

const sendText = (connection: Connection, text: string): void => {
  connection.send([Buffer.from(text)]).catch(() => undefined);
};
const texts = (received: readonly [number, string][]): string[] => received.map(([, text]) => text);

/** Process b listens and a dials it. */
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
    received: { near: [], far: [] },
    ended: {},
    listener,
  };
  for (const side of ['near', 'far'] as const) {
    world[side].onMessage((data) => world.received[side].push([time.nowMs, Buffer.from(data).toString()]));
    void world[side].closed.then(({ code }) => (world.ended[side] = [time.nowMs, code]));
  }
  return world;
}

describe('simulated network', () => {
  test('messages arrive in order, each after a delay within the bounds that depends on the seed', async () => {
    const times: number[][] = [];
    for (const seed of [1, 2, 1]) {
      const { time, near, received } = await open(seed, { minDelayMs: 2, maxDelayMs: 9 });
      const startMs = time.nowMs;
      for (let i = 0; i < 30; i++) sendText(near, `${i}`);
      await time.run(() => received.far.length === 30);
      assert.deepEqual(
        texts(received.far),
        Array.from({ length: 30 }, (_, i) => `${i}`),
      );
      times.push(received.far.map(([ms]) => ms - startMs));
      assert.ok(times.at(-1)!.every((ms) => ms >= 2 && ms <= 9 + 30));
    }
    assert.deepEqual(times[2], times[0]);
    assert.notDeepEqual(times[1], times[0]);
  });

  test('after a crash, sent messages arrive up to some point, the peer sees the end, and dials are refused', async () => {
    const outcomes = new Set<number>();
    for (let seed = 0; seed < 20; seed++) {
      const { time, transports, b, near, far, received, ended, listener } = await open(seed);
      for (let i = 0; i < 5; i++) sendText(far, `${i}`);
      b.crash();
      sendText(near, 'to a crashed process');
      await time.run(200);
      assert.deepEqual(texts(received.near), ['0', '1', '2', '3', '4'].slice(0, received.near.length));
      outcomes.add(received.near.length);
      assert.equal(ended.near?.[1], 1006);
      assert.equal(ended.far, undefined, 'the code of a crashed process is not called');
      assert.deepEqual(received.far, []);
      const again = codeOf(transports.a.dial(listener.url, { token: TOKEN, timeoutMs: 100 }));
      await time.run(time.nowMs + 200);
      assert.equal(await again, 'CONNECT_FAILED');
    }
    assert.ok(outcomes.has(0) && outcomes.has(5), `both a reset and an orderly end: ${[...outcomes].join(', ')}`);
  });

  test('a stopped process buffers within bounds, and reads when it is continued', async () => {
    const { time, near, b, received } = await open(1, { kernelBytes: 1000 });
    b.stop();
    const accepted: number[] = [];
    for (let i = 0; i < 5; i++)
      near.send([Buffer.alloc(400, `${i}`)]).then(
        () => accepted.push(i),
        () => undefined,
      );
    await time.run(time.nowMs + 100);
    assert.deepEqual([accepted, received.far], [[0, 1], []]);
    b.continue();
    await time.run(time.nowMs + 100);
    assert.deepEqual(accepted, [0, 1, 2, 3, 4]);
    assert.deepEqual(
      received.far.map(([, text]) => text[0]),
      ['0', '1', '2', '3', '4'],
    );
  });

  test('a stopped process answers no dial until it is continued, and a dial with a shorter timeout fails', async () => {
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

  test('a cut connection ends on both sides, each at its own time', async () => {
    const { time, network, near, received, ended } = await open();
    network.cut(network.connections()[0]!);
    sendText(near, 'too late');
    await time.run(time.nowMs + 60);
    assert.deepEqual([ended.near?.[1], ended.far?.[1]], [1006, 1006]);
    assert.notEqual(ended.near?.[0], ended.far?.[0]);
    assert.deepEqual([received.far, network.connections().length], [[], 1]);
    await codeAfter(near.send([Buffer.from('x')]), 'CONNECTION_LOST');
  });

  test('a half-open connection: one side learns that it broke, the other one waits', async () => {
    const { time, network, far, received, ended } = await open();
    network.halfOpen(network.connections()[0]!, 'near', 10_000);
    await time.run(time.nowMs + 100);
    assert.deepEqual([ended.near?.[1], ended.far, far.isOpen], [1006, undefined, true]);
    const accepted = far.send([Buffer.from('never arrives')]);
    await time.run(time.nowMs + 10);
    await accepted;
    await time.run(time.nowMs + 11_000);
    assert.deepEqual([ended.far?.[1], received.near], [1006, []]);
  });

  test('a partition delays messages and dials until it heals', async () => {
    const { time, network, transports, a, b, near, far, received, listener } = await open();
    const startMs = time.nowMs;
    network.partition(a, b, 300, 'held');
    for (const text of ['x', 'y']) sendText(near, text);
    sendText(far, 'z');
    const late = codeOf(transports.a.dial(listener.url, { token: TOKEN, timeoutMs: 100 }));
    const patient = codeOf(transports.a.dial(listener.url, { token: TOKEN, timeoutMs: 500 }));
    await time.run(startMs + 299);
    assert.deepEqual([received.near, received.far, await late], [[], [], 'CONNECT_FAILED']);
    await time.run(startMs + 350);
    assert.deepEqual([texts(received.near), texts(received.far), await patient], [['z'], ['x', 'y'], 'open']);
  });

  test('a partition of one process from all can break its connections, and does not affect others', async () => {
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

  test('corruptNext flips one bit of the next message above a size, once', async () => {
    const { time, network, far, received } = await open();
    const zeros = (size: number): string => Buffer.alloc(size).toString();
    network.corruptNext(network.connections()[0]!, 10);
    for (const size of [10, 11, 12]) sendText(far, zeros(size));
    await time.run(time.nowMs + 100);
    assert.equal(network.numBitsFlipped, 1);
    const [first, second, third] = texts(received.near);
    assert.deepEqual([first, third], [zeros(10), zeros(12)]);
    assert.notEqual(second, zeros(11));
  });

  test('aborting a dial that was accepted ends the other side', async () => {
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
