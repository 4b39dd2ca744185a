/** One rank of bench/all-reduce.ts: a process that executes requests of its parent, with one answer per message. */
import { Collective } from '../worker/collective/all-reduce.ts';
import { Arena, planArena } from '../worker/arena/arena.ts';
import { planBuckets, type BucketPlan, type GradientPrecision } from '../worker/arena/bucket-plan.ts';
import { connectMesh, type SocketKind } from '../worker/mesh/connect-mesh.ts';
import { DataPort } from '../worker/mesh/data-port.ts';
import { planWindows } from '../worker/mesh/frame-windows.ts';
import type { ChannelKind } from '../worker/mesh/inbound.ts';
import type { PeerChannel } from '../worker/mesh/peer-channel.ts';
import type { StepResult } from '../worker/collective/step-tally.ts';
import { assignLanes } from '../shared/assign-lanes.ts';
import { planLaneTree } from '../shared/lane-tree.ts';
import { webSocketTransport as transport } from '../shared/transport/websocket-transport.ts';
import { RawAllReduce, RawListener } from './raw-tcp.ts';

interface ConnectAsk {
  readonly kind: 'connect';
  readonly numBytes: number;
  readonly channelKind: ChannelKind;
  readonly socket: SocketKind;
  readonly frameBytes: number;
  readonly window: number;
  readonly maxWindowBytes: number;
  readonly bucketBytes: number;
  readonly precision: GradientPrecision;
}

export type Ask =
  | { readonly kind: 'listen'; readonly host: string }
  | { readonly kind: 'meet'; readonly rank: number; readonly members: readonly Member[] }
  | ConnectAsk
  | { readonly kind: 'fill' }
  | { readonly kind: 'run'; readonly contender: Contender };

/** exmix with and without verification, and plain TCP. */
export type Contender = 'on' | 'off' | 'raw';

export interface Member {
  readonly url: string;
  readonly raw: { readonly host: string; readonly port: number };
}

export interface Reply {
  readonly member: Member;
  readonly digest: number;
  readonly totalMs: number;
  /** User and system time of this process. */
  readonly cpuMs: number;
  /** The longest round trip to a peer, and the largest window. */
  readonly roundTripMs: number;
  readonly window: number;
}

const SECRET = Buffer.alloc(32, 7);
const PARAMETER_BYTES = 4 << 20;
const nobody: Member = { url: '', raw: { host: '', port: 0 } };
const nothing: Reply = {
  member: nobody,
  digest: 0,
  totalMs: 0,
  cpuMs: 0,
  roundTripMs: 0,
  window: 0,
};

let port: DataPort;
let listener: RawListener;
let rank = 0;
let members: readonly Member[] = [];
let generation = 0;
let plan: BucketPlan;
let arena: Arena;
/** Two collectives over the same arena, with and without verification. */
let collectives: { on: Collective; off: Collective } | null = null;
let raw: RawAllReduce | null = null;
const steps = { on: 0, off: 0 };

async function connect(ask: ConnectAsk): Promise<Reply> {
  const { numBytes, channelKind, socket, frameBytes, window, bucketBytes, maxWindowBytes, precision } = ask;
  for (const collective of Object.values(collectives ?? {})) {
    collective.close();
    await collective.closed;
  }
  raw?.close();
  const sizes = Array.from({ length: Math.ceil(numBytes / PARAMETER_BYTES) }, (_, i) => ({
    name: `p${i}`,
    numElements: Math.min(PARAMETER_BYTES, numBytes - i * PARAMETER_BYTES) / 4,
  }));
  plan = planBuckets(sizes, bucketBytes, precision);
  const numLanes = 2 ** Math.ceil(Math.log2(members.length));
  const laneTree = planLaneTree(numLanes, assignLanes(numLanes, members.length).runs);
  const connectChannels = (): Promise<PeerChannel[]> => {
    generation++;
    const peers = members.map(({ url }, peer) => ({ rank: peer, url })).filter((peer) => peer.rank !== rank);
    const channel = { kind: channelKind, socket, frameBytes, window, numCoverNodes: 1 };
    const identity = { rank, epoch: 1, generation, secret: SECRET };
    return connectMesh({ identity, peers, port, transport, channel, timeoutMs: 20_000 });
  };
  const open = (verify: boolean, channels: readonly PeerChannel[]): Collective =>
    new Collective({
      arena,
      plan,
      laneTree,
      rank,
      epoch: 1,
      generation,
      firstStep: 0,
      channels,
      options: { frameBytes, verify },
    });
  const first = await connectChannels();
  const roundTripsMs = members.map((_, peer) => first.find(({ peerRank }) => peerRank === peer)?.roundTripMs ?? 0);
  const numCoverNodes = members.map(() => 1);
  const ways = {
    roundTripsMs,
    numCoverNodes,
    slotBytes: planArena({ plan, laneTree, rank, frameBytes, window }).receiveStride,
    windowFrames: window,
    maxWindowBytes,
  };
  const windows = planWindows(ways);
  arena = new Arena(planArena({ plan, laneTree, rank, frameBytes, window: windows }));
  const on = open(true, first);
  collectives = { on, off: open(false, await connectChannels()) };
  steps.on = 0;
  steps.off = 0;
  const addresses = members.map((member) => member.raw);
  raw = await RawAllReduce.connect({ arena, plan, laneTree, rank, frameBytes, addresses, listener });
  return { ...nothing, roundTripMs: Math.max(...roundTripsMs), window: Math.max(...windows) };
}

async function listen(host: string): Promise<Reply> {
  port = await DataPort.open({ transport, host, port: 0 });
  listener = await RawListener.open(host);
  return { ...nothing, member: { url: port.announce(port.url), raw: { host, port: listener.port } } };
}

function allReduce(contender: 'on' | 'off'): Promise<StepResult> {
  const collective = collectives![contender];
  const promise = collective.startStep(steps[contender]++);
  for (const { index } of plan.buckets) collective.bucketReady(index);
  return promise;
}

async function run(contender: Contender): Promise<Reply> {
  const startMs = performance.now();
  const startCpu = process.cpuUsage();
  const result = contender === 'raw' ? {} : await allReduce(contender);
  if (contender === 'raw') await raw!.run();
  const totalMs = performance.now() - startMs;
  const { user, system } = process.cpuUsage(startCpu);
  return { ...nothing, ...result, totalMs, cpuMs: (user + system) / 1000 };
}

async function answer(ask: Ask): Promise<Reply> {
  switch (ask.kind) {
    case 'listen':
      return listen(ask.host);
    case 'meet':
      ({ rank, members } = ask);
      return nothing;
    case 'connect':
      return connect(ask);
    case 'fill':
      arena.floats(0, 0, plan.gradientBytes / 4).fill(1);
      return nothing;
    case 'run':
      return run(ask.contender);
  }
}

process.on('disconnect', () => process.exit());
process.on('message', (ask: Ask) => {
  answer(ask).then(
    (reply) => process.send!(reply),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
