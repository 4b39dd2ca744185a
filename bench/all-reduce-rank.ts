/** One rank of bench/all-reduce.ts: a process that does what its parent asks, one answer per message. */
import { Collective } from '../worker/collective/all-reduce.ts';
import { Arena, planArena } from '../worker/collective/arena.ts';
import { planBuckets, type BucketPlan, type GradientPrecision } from '../worker/collective/bucket-plan.ts';
import { connectMesh, type SocketKind } from '../worker/collective/connect-mesh.ts';
import { DataPort } from '../worker/collective/data-port.ts';
import type { LinkKind } from '../worker/collective/inbound.ts';
import { assignLanes } from '../shared/assign-lanes.ts';
import { planLaneTree } from '../shared/lane-tree.ts';
import { webSocketTransport as transport } from '../shared/transport/websocket-transport.ts';

interface ConnectAsk {
  readonly kind: 'connect';
  readonly numBytes: number;
  readonly linkKind: LinkKind;
  readonly socket: SocketKind;
  readonly frameBytes: number;
  readonly window: number;
  readonly bucketBytes: number;
  readonly precision: GradientPrecision;
}

export type Ask =
  | { readonly kind: 'listen' }
  | { readonly kind: 'meet'; readonly rank: number; readonly urls: readonly string[] }
  | ConnectAsk
  | { readonly kind: 'fill' }
  | { readonly kind: 'run'; readonly verify: boolean };

export interface Reply {
  readonly url: string;
  readonly digest: number;
  readonly totalMs: number;
  /** User and system time of this process. */
  readonly cpuMs: number;
  readonly reduceMs: number;
  readonly checkMs: number;
}

const TOKEN = 'bench';
const PARAMETER_BYTES = 4 << 20;
const nothing: Reply = { url: '', digest: 0, totalMs: 0, cpuMs: 0, reduceMs: 0, checkMs: 0 };
const port = await DataPort.open({ transport, host: '127.0.0.1', port: 0, token: TOKEN });

let rank = 0;
let urls: readonly string[] = [];
let generation = 0;
let plan: BucketPlan;
let arena: Arena;
/** One over the same arena with verification, one without. */
let collectives: { on: Collective; off: Collective } | null = null;
const steps = { on: 0, off: 0 };

async function connect(ask: ConnectAsk): Promise<void> {
  const { numBytes, linkKind, socket, frameBytes, window, bucketBytes, precision } = ask;
  for (const collective of Object.values(collectives ?? {})) {
    collective.close();
    await collective.closed;
  }
  const sizes = Array.from({ length: Math.ceil(numBytes / PARAMETER_BYTES) }, (_, i) => ({
    name: `p${i}`,
    numElements: Math.min(PARAMETER_BYTES, numBytes - i * PARAMETER_BYTES) / 4,
  }));
  plan = planBuckets(sizes, bucketBytes, 0, precision);
  const numLanes = 2 ** Math.ceil(Math.log2(urls.length));
  const laneTree = planLaneTree(numLanes, assignLanes(numLanes, urls.length).runs);
  arena = new Arena(planArena({ plan, laneTree, rank, frameBytes, window }));
  const open = async (verify: boolean): Promise<Collective> => {
    generation++;
    const peers = urls.map((url, peer) => ({ rank: peer, url })).filter((peer) => peer.rank !== rank);
    const mesh = {
      rank,
      peers,
      port,
      transport,
      token: TOKEN,
      epoch: 1,
      generation,
      linkKind,
      socket,
      frameBytes,
      window,
      numCoverNodes: 1,
    };
    const links = await connectMesh({ ...mesh, timeoutMs: 20_000 });
    const options = { frameBytes, window, verify };
    return new Collective({ arena, plan, laneTree, rank, epoch: 1, generation, firstStep: 0, links, options });
  };
  collectives = { on: await open(true), off: await open(false) };
  steps.on = 0;
  steps.off = 0;
}

async function run(verify: boolean): Promise<Reply> {
  const which = verify ? 'on' : 'off';
  const collective = collectives![which];
  const startMs = performance.now();
  const startCpu = process.cpuUsage();
  const promise = collective.startStep(steps[which]++);
  for (const { index } of plan.buckets) collective.bucketReady(index);
  const result = await promise;
  const totalMs = performance.now() - startMs;
  const { user, system } = process.cpuUsage(startCpu);
  return { ...nothing, ...result, totalMs, cpuMs: (user + system) / 1000 };
}

async function answer(ask: Ask): Promise<Reply> {
  switch (ask.kind) {
    case 'listen':
      return { ...nothing, url: port.announce(port.url) };
    case 'meet':
      ({ rank, urls } = ask);
      return nothing;
    case 'connect':
      await connect(ask);
      return nothing;
    case 'fill':
      arena.floats(0, 0, plan.totalBytes / 4).fill(1);
      return nothing;
    case 'run':
      return run(ask.verify);
  }
}

process.on('message', (ask: Ask) => {
  answer(ask).then(
    (reply) => process.send!(reply),
    (error: unknown) => {
      console.error(error);
      process.exit(1);
    },
  );
});
