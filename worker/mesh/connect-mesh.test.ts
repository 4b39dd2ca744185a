import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { toTrainerError } from '../../shared/errors.ts';
import { readLocality } from '../../shared/transport/local-socket.ts';
import { MemoryTransport } from '../../shared/transport/memory-transport.ts';
import type { Connection, Refusal, Transport } from '../../shared/transport/transport.ts';
import { webSocketTransport } from '../../shared/transport/websocket-transport.ts';
import { Collective, type CollectiveOptions } from '../collective/all-reduce.ts';
import { Arena, planArena } from '../arena/arena.ts';
import { planBuckets, type BucketPlan, type GradientPrecision } from '../arena/bucket-plan.ts';
import { connectMesh, type SocketKind } from './connect-mesh.ts';
import { DataPort } from './data-port.ts';
import { encodeFrameHeader, FRAME_PART, type FrameHeader } from './frame-header.ts';
import type { ChannelKind } from './inbound.ts';
import { makeLaneGradient, sumNaively } from '../collective/lane-gradients.fixture.ts';
import { assignLanes } from '../../shared/assign-lanes.ts';
import { planLaneTree } from '../../shared/lane-tree.ts';
import { OUTBOX_FOLDER } from './outbox.ts';

const SECRET = Buffer.alloc(32, 3);
const FRAME_BYTES = 1 << 17;
const OPTIONS = { frameBytes: FRAME_BYTES, window: 2, timeoutMs: 10_000 };

interface Kind {
  readonly name: string;
  readonly channelKind: ChannelKind;
  readonly socket: SocketKind;
  readonly outboxFolder?: string;
  readonly makeTransport: () => Transport;
}

const kinds: Kind[] = [
  { name: 'direct', channelKind: 'direct', socket: 'tcp', makeTransport: () => webSocketTransport },
  { name: 'direct local', channelKind: 'direct', socket: 'auto', makeTransport: () => webSocketTransport },
  {
    name: 'direct local without outbox',
    channelKind: 'direct',
    socket: 'auto',
    outboxFolder: '/nowhere',
    makeTransport: () => webSocketTransport,
  },
  { name: 'stock ws', channelKind: 'message', socket: 'tcp', makeTransport: () => webSocketTransport },
  { name: 'memory', channelKind: 'message', socket: 'auto', makeTransport: () => new MemoryTransport() },
];

// One bucket with frames above 64 KiB, one with tiny ones, so that every WebSocket length form occurs.
function planOf(precision: GradientPrecision): BucketPlan {
  const sizes = [
    { name: 'large', numElements: 150_001 },
    { name: 'middle', numElements: 3001 },
    { name: 'small', numElements: 17 },
  ];
  return planBuckets(sizes, 4096, precision);
}

const plan = planOf('float32');

async function openPorts(
  kind: Kind,
  worldSize: number,
): Promise<{ transport: Transport; ports: DataPort[]; refusals: Refusal[] }> {
  const transport = kind.makeTransport();
  const refusals: Refusal[] = [];
  const ports = await Promise.all(
    Array.from({ length: worldSize }, () =>
      DataPort.open({ transport, host: '127.0.0.1', port: 0, onRefused: (r) => refusals.push(r) }),
    ),
  );
  return { transport, ports, refusals };
}

const meshInit = (
  kind: Kind,
  transport: Transport,
  ports: readonly DataPort[],
  rank: number,
  generation: number,
  numLanes = 2 ** Math.ceil(Math.log2(ports.length)),
) => ({
  identity: { rank, epoch: 1, generation, secret: SECRET },
  peers: ports.map((port, peer) => ({ rank: peer, url: port.announce(port.url) })).filter((peer) => peer.rank !== rank),
  port: ports[rank]!,
  transport,
  channel: {
    kind: kind.channelKind,
    socket: kind.socket,
    frameBytes: FRAME_BYTES,
    window: OPTIONS.window,
    numCoverNodes: planLaneTree(numLanes, assignLanes(numLanes, ports.length).runs).folds[rank]!.cover.length,
    outboxFolder: kind.outboxFolder ?? OUTBOX_FOLDER,
  },
  timeoutMs: 10_000,
});

interface World {
  readonly transport: Transport;
  readonly ports: readonly DataPort[];
  readonly plan: BucketPlan;
  readonly arenas: readonly Arena[];
  readonly collectives: readonly Collective[];
  readonly close: () => Promise<void>;
}

async function openWorld(
  kind: Kind,
  worldSize: number,
  numLanes: number,
  options: Partial<CollectiveOptions> = {},
  plan = planOf('float32'),
): Promise<World> {
  const { transport, ports } = await openPorts(kind, worldSize);
  const laneTree = planLaneTree(numLanes, assignLanes(numLanes, worldSize).runs);
  const { collectives, arenas } = await connectWorld(kind, transport, ports, 7, numLanes, options, plan);
  const close = async (): Promise<void> => {
    for (const collective of collectives) collective.close();
    await Promise.all([...collectives.map(({ closed }) => closed), ...ports.map((port) => port.close())]);
  };
  assert.equal(collectives.length, laneTree.worldSize);
  return { transport, ports, plan, arenas, collectives, close };
}

async function connectWorld(
  kind: Kind,
  transport: Transport,
  ports: readonly DataPort[],
  generation: number,
  numLanes: number,
  options: Partial<CollectiveOptions> = {},
  plan = planOf('float32'),
): Promise<Pick<World, 'plan' | 'arenas' | 'collectives'>> {
  const laneTree = planLaneTree(numLanes, assignLanes(numLanes, ports.length).runs);
  const meshes = await Promise.all(
    ports.map((_, rank) => connectMesh(meshInit(kind, transport, ports, rank, generation, numLanes))),
  );
  const arenas = ports.map(
    (_, rank) => new Arena(planArena({ plan, laneTree, rank, frameBytes: FRAME_BYTES, window: OPTIONS.window })),
  );
  const collectives = meshes.map(
    (channels, rank) =>
      new Collective({
        arena: arenas[rank]!,
        plan,
        laneTree,
        rank,
        epoch: 1,
        generation,
        firstStep: 0,
        channels,
        options: { ...OPTIONS, ...options },
      }),
  );
  return { plan, arenas, collectives };
}

function announce(collective: Collective): void {
  for (const { index } of plan.buckets) collective.bucketReady(index);
}

function fold(
  { arenas, collectives, plan }: Pick<World, 'plan' | 'arenas' | 'collectives'>,
  numLanes: number,
  rank: number,
  step: number,
): void {
  const arena = arenas[rank]!;
  const worldSize = collectives.length;
  for (const foldStep of planLaneTree(numLanes, assignLanes(numLanes, worldSize).runs).folds[rank]!.steps) {
    const gradient = makeLaneGradient(plan, 1, step, foldStep.lane);
    arena.floats(foldStep.slot, 0, gradient.length).set(gradient);
    arena.fold(foldStep, 0, plan.gradientBytes);
  }
}

async function runSteps(
  world: Pick<World, 'plan' | 'arenas' | 'collectives'>,
  numLanes: number,
  numSteps: number,
): Promise<void> {
  const { plan } = world;
  const sums = Array.from({ length: numSteps }, (_, step) => {
    const lanes = Array.from({ length: numLanes }, (__, lane) => makeLaneGradient(plan, 1, step, lane));
    return Buffer.from(sumNaively(lanes, plan.precision).buffer);
  });
  await Promise.all(
    world.collectives.map(async (collective, rank) => {
      const arena = world.arenas[rank]!;
      for (let step = 0; step < numSteps; step++) {
        fold(world, numLanes, rank, step);
        const promise = collective.startStep(step);
        announce(collective);
        await promise;
        assert.ok(
          arena.bytes(arena.slotAddress(0, 0), plan.gradientBytes).equals(sums[step]!),
          `rank ${rank} step ${step}`,
        );
      }
    }),
  );
}

for (const kind of kinds)
  describe(`all-reduce over ${kind.name} channels`, () => {
    for (const [worldSize, numLanes, precision] of [
      [1, 2, 'float32'],
      [2, 2, 'float32'],
      [3, 8, 'float32'],
      [2, 2, 'bfloat16'],
      [3, 8, 'bfloat16'],
    ] as const)
      test(`${worldSize} ranks, ${numLanes} lanes, ${precision}: the sequential tree’s bits, several steps`, async () => {
        const world = await openWorld(kind, worldSize, numLanes, {}, planOf(precision));
        await runSteps(world, numLanes, 3);
        await world.close();
      });

    test('a second generation over the same ports', async () => {
      const world = await openWorld(kind, 2, 2);
      await runSteps(world, 2, 1);
      for (const collective of world.collectives) collective.close();
      await Promise.all(world.collectives.map(({ closed }) => closed));
      const next = await connectWorld(kind, world.transport, world.ports, 8, 2);
      await runSteps(next, 2, 2);
      for (const collective of next.collectives) collective.close();
      await world.close();
    });

    test('a rank that leaves in mid-step is CONNECTION_LOST at the others, by name, and all sockets close', async () => {
      const world = await openWorld(kind, 3, 4);
      const steps = [0, 1].map((rank) => {
        const promise = world.collectives[rank]!.startStep(0);
        announce(world.collectives[rank]!);
        return promise;
      });
      world.collectives[2]!.close();
      const errors = await Promise.all(steps.map((step) => step.then(() => null, toTrainerError)));
      for (const error of errors) assert.equal(error?.code, 'CONNECTION_LOST');
      assert.ok(errors.some((error) => error?.message.includes('connection to rank 2 is lost')));
      await Promise.all(world.collectives.map(({ closed }) => closed));
      await world.close();
    });

    test('a peer that stays silent is COLLECTIVE_TIMEOUT by rank, bucket and part', async () => {
      const world = await openWorld(kind, 2, 2, { timeoutMs: 60 });
      const promise = world.collectives[0]!.startStep(0);
      announce(world.collectives[0]!);
      await assert.rejects(promise, {
        code: 'COLLECTIVE_TIMEOUT',
        message: /rank 1 has not sent its part of bucket 0 chunk 0 part 0/,
      });
      assert.equal((await world.collectives[1]!.failed).code, 'CONNECTION_LOST');
      await world.close();
    });

    /** Rank 1 is played by hand: gets the connection that rank 0 receives on, and one that rank 0 sends on. */
    async function playPeer(): Promise<{ sendTo: Connection; victim: Collective; close: () => Promise<void> }> {
      const { transport, ports, refusals } = await openPorts(kind, 1);
      let sendTo: Connection | null = null;
      const fake = await transport.listen({
        host: '127.0.0.1',
        port: 0,
        challenge: () => ({ secret: SECRET, greeting: '' }),
        onConnection: (connection) => (sendTo = connection),
      });
      const peers = [{ rank: 1, url: fake.url }];
      const connecting = connectMesh({ ...meshInit(kind, transport, ports, 0, 7), peers });
      const receive = await transport.dial(`${ports[0]!.url}/data/1/7/0/1`, { secret: SECRET, timeoutMs: 5000 });
      receive.onMessage(() => undefined);
      const channels = await connecting;
      const laneTree = planLaneTree(2, assignLanes(2, 2).runs);
      const arena = new Arena(planArena({ plan, laneTree, rank: 0, frameBytes: FRAME_BYTES, window: OPTIONS.window }));
      const init = { plan, laneTree, rank: 0, epoch: 1, generation: 7, firstStep: 0, channels, options: OPTIONS };
      const ready = new Promise<void>((resolve) => {
        sendTo!.onMessage((message) => {
          assert.equal(Buffer.from(message).toString(), `EXMIX-READY-2 ${OPTIONS.window}`);
          resolve();
        });
      });
      const victim = new Collective({ ...init, arena });
      await ready;
      assert.deepEqual(refusals, []);
      const close = async (): Promise<void> => {
        victim.close();
        await victim.closed;
        await Promise.all([fake.close(), ports[0]!.close()]);
      };
      return { sendTo: sendTo!, victim, close };
    }

    const header: FrameHeader = {
      type: FRAME_PART,
      node: 0,
      chunk: 0,
      epoch: 1,
      generation: 7,
      step: 0,
      bucket: 0,
      part: 0,
      byteLength: 100_032,
      offsetBytes: 0,
      payloadChecksum: 12345,
    };

    const attacks: [string, Uint8Array[], string][] = [
      ['a payload with another checksum', [encodeFrameHeader(header), Buffer.alloc(100_032)], 'FRAME_INVALID'],
      [
        'a header with a flipped bit',
        [Buffer.from(encodeFrameHeader(header)).fill(0xff, 20, 21), Buffer.alloc(8)],
        'FRAME_INVALID',
      ],
      ['another generation', [encodeFrameHeader({ ...header, generation: 6 }), Buffer.alloc(8)], 'FRAME_STALE'],
      ['a payload shorter than announced', [encodeFrameHeader(header), Buffer.alloc(100)], 'FRAME_INVALID'],
      ['a payload longer than announced', [encodeFrameHeader(header), Buffer.alloc(100_096)], 'FRAME_INVALID'],
      [
        'a place outside the gradient',
        [encodeFrameHeader({ ...header, offsetBytes: 2 ** 40 }), Buffer.alloc(8)],
        'FRAME_INVALID',
      ],
      ['no frame at all', [Buffer.from('hello')], 'FRAME_INVALID'],
    ];
    for (const [name, parts, code] of attacks)
      test(`${name} closes the channel with ${code}`, async () => {
        const { sendTo, victim, close } = await playPeer();
        await sendTo.send(parts);
        assert.equal((await victim.failed).code, code);
        assert.equal((await sendTo.closed).error?.code, code, 'the peer is told why');
        await close();
      });

    test('ping, pong and close pass between frames', async () => {
      const { sendTo, victim, close } = await playPeer();
      assert.ok((await sendTo.ping(5000)) >= 0);
      sendTo.close('WORKER_LOST', 'the coordinator said so');
      const error = await victim.failed;
      assert.equal(error.code, 'CONNECTION_LOST');
      assert.match(error.message, /rank 1 is lost.*WORKER_LOST: the coordinator said so/);
      await close();
    });
  });

describe('connectMesh', () => {
  const kind = kinds[0]!;

  test('waits for a peer that comes late, and fails with the missing ranks by name', async () => {
    const { transport, ports } = await openPorts(kind, 3);
    const first = connectMesh(meshInit(kind, transport, ports, 0, 7));
    const second = connectMesh({ ...meshInit(kind, transport, ports, 1, 7), timeoutMs: 1000 });
    await assert.rejects(second, {
      code: 'CONNECT_FAILED',
      message: /could not reach .*rank 2 at .*no connection came from .*rank 2$/,
    });
    const late = await Promise.all([
      first,
      ...[1, 2].map((rank) => connectMesh(meshInit(kind, transport, ports, rank, 7))),
    ]);
    for (const channels of late) {
      assert.equal(channels.length, 2);
      for (const channel of channels) channel.close('NORMAL', '');
    }
    await Promise.all(ports.map((port) => port.close()));
  });

  describe('local sockets', { skip: readLocality() === null && 'this system has none' }, () => {
    const local = kinds.find(({ name }) => name === 'direct local')!;

    /** Both ranks connect to addresses made from the announced ones. */
    async function connectBoth(change: (address: string) => string, socket: SocketKind): Promise<void> {
      const { transport, ports } = await openPorts(local, 2);
      const channels = await Promise.all(
        [0, 1].map((rank) => {
          const init = meshInit(local, transport, ports, rank, 7);
          const peers = init.peers.map((peer) => ({ ...peer, url: change(peer.url) }));
          return connectMesh({ ...init, peers, channel: { ...init.channel, socket }, timeoutMs: 1000 });
        }),
      ).finally(() => Promise.all(ports.map((port) => port.close())));
      assert.equal(channels.flat().length, 2);
      await Promise.all(channels.flat().map(({ closed }) => closed));
    }
    const withoutTcp = (address: string): string => address.replace(/^[^#]*/, 'ws://127.0.0.1:1');

    test('are dialled by members of the same host, unless tcp is asked for', async () => {
      await connectBoth(withoutTcp, 'auto');
      await assert.rejects(connectBoth(withoutTcp, 'tcp'), { code: 'CONNECT_FAILED' });
    });

    test('an outbox has a name only until it was opened, and a mesh without one reports the reason', async () => {
      const outboxFolder = mkdtempSync(join(tmpdir(), 'mesh-'));
      const world = await openWorld({ ...local, outboxFolder }, 2, 4);
      await runSteps(world, 4, 2);
      assert.deepEqual(readdirSync(outboxFolder), []);
      await world.close();
      rmSync(outboxFolder, { recursive: true });

      const codes: string[] = [];
      const { transport, ports } = await openPorts(local, 2);
      const meshes = await Promise.all(
        [0, 1].map((rank) => {
          const init = meshInit(local, transport, ports, rank, 7);
          const channel = { ...init.channel, outboxFolder: join(outboxFolder, 'gone') };
          return connectMesh({ ...init, channel, onNoOutbox: ({ code }) => codes.push(code) });
        }),
      );
      for (const channel of meshes.flat()) channel.close('NORMAL', 'over');
      await Promise.all(ports.map((port) => port.close()));
      assert.deepEqual(codes, ['PATH_UNUSABLE', 'PATH_UNUSABLE']);
    });

    test('are replaced by TCP when nobody answers', async () => {
      await connectBoth((address) => address.replace(/exmix-\w+$/, 'exmix-nobody'), 'auto');
    });

    test('of another host are not dialled', async () => {
      await connectBoth((address) => address.replace(/#.*/, '#elsewhere/ws+local://exmix-nobody'), 'auto');
    });

    test('a peer that is not ready yet is awaited at its local socket', async () => {
      const { transport, ports } = await openPorts(local, 2);
      const meshes = [0, 1].map((rank) => {
        const init = meshInit(local, transport, ports, rank, 7);
        return { ...init, peers: init.peers.map((peer) => ({ ...peer, url: withoutTcp(peer.url) })) };
      });
      await assert.rejects(connectMesh({ ...meshes[0]!, timeoutMs: 3_000 }), {
        message: /no generation is being connected here now/,
      });
      const early = connectMesh(meshes[0]!);
      const channels = (await Promise.all([early, connectMesh(meshes[1]!)])).flat();
      for (const channel of channels) channel.close('NORMAL', '');
      await Promise.all(ports.map((port) => port.close()));
    });
  });

  test('a peer with another secret is AUTH_FAILED at once; an abort is ABORTED', async () => {
    const { transport, ports } = await openPorts(kind, 2);
    const meshes = [SECRET, Buffer.alloc(32, 4)].map((secret, rank) => {
      const init = meshInit(kind, transport, ports, rank, 7);
      return connectMesh({ ...init, identity: { ...init.identity, secret } });
    });
    const found = await Promise.allSettled(meshes);
    assert.ok(
      found.some(
        ({ status, reason }: PromiseSettledResult<unknown> & { reason?: unknown }) =>
          status === 'rejected' && toTrainerError(reason).code === 'AUTH_FAILED',
      ),
    );
    for (const { status } of found) assert.equal(status, 'rejected');
    const controller = new AbortController();
    const connecting = connectMesh({ ...meshInit(kind, transport, ports, 0, 7), signal: controller.signal });
    controller.abort();
    await assert.rejects(connecting, { code: 'ABORTED' });
    await Promise.all(ports.map((port) => port.close()));
  });

  test('strangers, other generations and second connections are refused without harm', async () => {
    const { transport, ports, refusals } = await openPorts(kind, 2);
    const dial = (path: string, secret: Uint8Array = SECRET): Promise<Connection> =>
      transport.dial(ports[0]!.url + path, { secret, timeoutMs: 2000 });
    await assert.rejects(dial('/data/1/7/0/1'), {
      code: 'CONNECT_FAILED',
      message: /no generation is being connected/,
    });
    const stranger = connect(ports[0]!.port, '127.0.0.1');
    stranger.on('error', () => undefined).resume();
    stranger.write(Buffer.alloc(300, 7));
    await new Promise((resolve) => stranger.once('close', resolve));
    const connecting = connectMesh(meshInit(kind, transport, ports, 0, 7));
    await assert.rejects(dial('/data/1/6/0/1'), { code: 'CONNECT_FAILED', message: /expected epoch 1 generation 7/ });
    await assert.rejects(dial('/data/2/7/0/1'), { code: 'CONNECT_FAILED', message: /expected epoch 1 generation 7/ });
    await assert.rejects(dial('/data/1/7/1/0'), { code: 'CONNECT_FAILED', message: /this is rank 0/ });
    await assert.rejects(dial('/data/1/7/0/2'), { code: 'CONNECT_FAILED', message: /rank 2 is no peer/ });
    await assert.rejects(dial('/data/1/7/0/0'), { code: 'CONNECT_FAILED', message: /rank 0 is no peer/ });
    await assert.rejects(dial('/somewhere'), { code: 'CONNECT_FAILED', message: /expected a path/ });
    await assert.rejects(dial('/data/1/7/0/1', Buffer.alloc(32, 4)), { code: 'AUTH_FAILED' });
    const second = connectMesh(meshInit(kind, transport, ports, 1, 7));
    const channels = (await Promise.all([connecting, second])).flat();
    const isEarlyDial = ({ reason }: Refusal): boolean => reason.startsWith('no generation');
    assert.equal(refusals.filter((refusal) => !isEarlyDial(refusal)).length, 8);
    const taken = ports[0]!.expect({ epoch: 1, generation: 8, rank: 0, worldSize: 2, secret: SECRET });
    const one = await dial('/data/1/8/0/1');
    await assert.rejects(dial('/data/1/8/0/1'), {
      code: 'CONNECT_FAILED',
      message: /has a data connection of generation 8 already/,
    });
    ports[0]!.stopAdmitting(taken);
    one.close('NORMAL', '');
    for (const channel of channels) channel.close('NORMAL', '');
    await Promise.all(channels.map(({ closed }) => closed));
    await Promise.all(ports.map((port) => port.close()));
  });
});
