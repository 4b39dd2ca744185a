/**
 * Compares the all-reduce with torch.distributed's gloo and with plain TCP: processes on one host, alternating rounds in one run.
 *
 * `node --import tsx bench/all-reduce.ts --python PATH [--worlds 2,4] [--sizes 25,100,300] [--rounds 15] [--link direct] [--socket tcp]
 * [--network 10gbit,20ms] [--precision bfloat16]`
 * PATH is a Python with torch; without it, gloo is not measured. Ranks communicate over loopback TCP or, with `--socket auto`, local sockets.
 * With `--network`, each rank is in its own name space behind a link of that rate and delay (network.ts; as root). A round is one all-reduce
 * of each contender; its time is that of the slowest rank. Prints medians over rounds, with best rounds and CPU time, which are more reliable
 * on a busy machine. exmix's time includes the digest and the sum of squares, which neither gloo nor plain TCP (raw-tcp.ts) computes.
 * `verify off` omits the checksum of each frame. `--precision` sets exmix's gradients; gloo and plain TCP send float32.
 */
import { parseArgs } from 'node:util';
import type { GradientPrecision } from '../worker/arena/bucket-plan.ts';
import type { ChannelKind } from '../worker/mesh/inbound.ts';
import type { SocketKind } from '../worker/mesh/connect-mesh.ts';
import { combineCosts, startExmix, startGloo, type Cost, type ExmixRanks } from './all-reduce-processes.ts';
import type { Contender, Reply } from './all-reduce-rank.ts';
import { createNetwork, parseNetworkSpec, type Network } from './network.ts';
import { median } from '../shared/statistics.ts';

const { values: args } = parseArgs({
  options: {
    python: { type: 'string' },
    worlds: { type: 'string', default: '2,4' },
    sizes: { type: 'string', default: '25,100,300' },
    rounds: { type: 'string', default: '15' },
    'warm-up': { type: 'string', default: '20' },
    link: { type: 'string', default: 'direct' },
    socket: { type: 'string', default: 'tcp' },
    network: { type: 'string' },
    frame: { type: 'string', default: '512' },
    window: { type: 'string', default: '2' },
    'max-window': { type: 'string', default: '64' },
    bucket: { type: 'string', default: '25' },
    precision: { type: 'string', default: 'float32' },
  },
});
const numbers = (list: string): number[] => list.split(',').map(Number);
const channelKind: ChannelKind = args.link === 'message' ? 'message' : 'direct';
const socket: SocketKind = args.socket === 'auto' ? 'auto' : 'tcp';
const precision: GradientPrecision = args.precision === 'bfloat16' ? 'bfloat16' : 'float32';
const numRounds = Number(args.rounds);
const numWarmUp = Number(args['warm-up']);
const CONTENDERS = ['gloo', 'raw', 'on', 'off'] as const;
type Costs = Record<'gloo' | Contender, Cost[]>;

const exmixCost = (replies: readonly Reply[]): Cost =>
  combineCosts(replies.map(({ totalMs, cpuMs }) => ({ ms: totalMs, cpuMs })));

/** `123.4 (best 100.0, cpu 200)` */
function show(costs: readonly Cost[]): string {
  const ms = costs.map((cost) => cost.ms);
  const cpuMs = median(costs.map((cost) => cost.cpuMs));
  return `${median(ms).toFixed(1)} (best ${Math.min(...ms).toFixed(1)}, cpu ${cpuMs.toFixed(0)})`;
}

/** Speed relative to the other one, by medians and by best rounds. */
function ratio(other: readonly Cost[], exmix: readonly Cost[]): string {
  const [o, e] = [other, exmix].map((costs) => costs.map(({ ms }) => ms));
  return `${(median(o!) / median(e!)).toFixed(2)}× (${(Math.min(...o!) / Math.min(...e!)).toFixed(2)}×)`;
}

async function runExmix(exmix: ExmixRanks, contender: Contender): Promise<Reply[]> {
  await exmix.ask({ kind: 'fill' }); // the answers of all ranks are a barrier, as in the gloo rank
  return exmix.ask({ kind: 'run', contender });
}

async function measure(worldSize: number, network: Network | null): Promise<void> {
  const exmix = await startExmix(worldSize, network);
  const gloo = args.python === undefined ? null : await startGloo(worldSize, network, args.python);
  for (const mebibytes of numbers(args.sizes)) {
    const numBytes = mebibytes * 2 ** 20;
    const [frameBytes, window, bucketBytes] = [
      Number(args.frame) * 1024,
      Number(args.window),
      Number(args.bucket) * 2 ** 20,
    ];
    const maxWindowBytes = Number(args['max-window']) * 2 ** 20;
    const sizes = { numBytes, frameBytes, window, maxWindowBytes, bucketBytes, precision };
    const connected = await exmix.ask({ kind: 'connect', channelKind, socket, ...sizes });
    const roundTripMs = Math.max(...connected.map((reply) => reply.roundTripMs));
    const largest = Math.max(...connected.map((reply) => reply.window));
    const costs: Costs = { gloo: [], raw: [], on: [], off: [] };
    const digests = new Set<number>();
    for (let round = -numWarmUp; round < numRounds; round++) {
      // Rotate the order, so that no contender always follows the same one.
      for (let turn = 0; turn < CONTENDERS.length; turn++) {
        const contender = CONTENDERS[(round + numWarmUp + turn) % CONTENDERS.length]!;
        if (contender === 'gloo' && gloo === null) continue;
        const replies = contender === 'gloo' ? [] : await runExmix(exmix, contender);
        const cost = contender === 'gloo' ? await gloo!.run(numBytes) : exmixCost(replies);
        if (round < 0) continue; // first touch of the memory
        costs[contender].push(cost);
        if (contender === 'on' || contender === 'off') for (const { digest } of replies) digests.add(digest);
      }
      if (digests.size > 1) throw new Error('the ranks computed different sums');
    }
    const { raw, on, off } = costs;
    console.log(
      `| ${worldSize} | ${mebibytes} | ${show(costs.gloo)} | ${show(raw)} | ${show(on)} | ${ratio(costs.gloo, on)} | ${ratio(raw, on)} ` +
        `| ${show(off)} | ${ratio(costs.gloo, off)} | ${ratio(raw, off)} | ${roundTripMs.toFixed(2)}, ${largest} |`,
    );
  }
  exmix.stop();
  gloo?.stop();
}

for (const worldSize of numbers(args.worlds)) {
  const spec = args.network === undefined ? null : parseNetworkSpec(args.network);
  const network = spec === null ? null : await createNetwork(worldSize, spec, args.python ?? 'python3');
  if (worldSize === numbers(args.worlds)[0]) {
    if (network !== null) console.log(`${network.description}\n`);
    console.log(
      '| N | MiB | gloo ms | raw TCP ms | exmix ms | of gloo | of raw | verify off ms | of gloo | of raw | round trip ms, window |',
    );
    console.log('|---|---|---|---|---|---|---|---|---|---|---|');
  }
  await measure(worldSize, network);
  network?.remove();
}
