/**
 * The all-reduce beside torch.distributed's gloo: processes on one host over loopback TCP (or local sockets: `--socket auto`), alternating rounds in one run.
 *
 * `node --import tsx bench/all-reduce.ts --python PATH [--worlds 2,4] [--sizes 25,100,300] [--rounds 15] [--link direct] [--socket tcp]
 * [--precision bfloat16]`
 * (PATH is a Python with torch; without it only exmix is measured). A round is one all-reduce of each contender; its time is
 * the slowest rank's. Medians over rounds (best rounds and CPU time beside them: read those on a busy machine). exmix's time includes the digest and the sum of squares that gloo does not compute;
 * `verify off` leaves out the checksum of each frame. `--precision`: of exmix's gradients; gloo adds float32.
 */
import { fork, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import type { GradientPrecision } from '../worker/collective/bucket-plan.ts';
import type { LinkKind } from '../worker/collective/inbound.ts';
import type { SocketKind } from '../worker/collective/connect-mesh.ts';
import type { Ask, Reply } from './all-reduce-rank.ts';
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
    frame: { type: 'string', default: '512' },
    window: { type: 'string', default: '2' },
    bucket: { type: 'string', default: '25' },
    precision: { type: 'string', default: 'float32' },
  },
});
const numbers = (list: string): number[] => list.split(',').map(Number);
const linkKind: LinkKind = args.link === 'message' ? 'message' : 'direct';
const socket: SocketKind = args.socket === 'auto' ? 'auto' : 'tcp';
const precision: GradientPrecision = args.precision === 'bfloat16' ? 'bfloat16' : 'float32';
const numRounds = Number(args.rounds);
const numWarmUp = Number(args['warm-up']);

/** Of one all-reduce: the slowest rank's milliseconds, and the CPU milliseconds of all ranks together. */
interface Cost {
  readonly ms: number;
  readonly cpuMs: number;
}

/** `ask` returns one answer per rank, in rank order. */
async function startExmix(worldSize: number): Promise<{ ask: (message: Ask) => Promise<Reply[]>; stop: () => void }> {
  const ranks = Array.from({ length: worldSize }, () =>
    fork(new URL('all-reduce-rank.ts', import.meta.url), { execArgv: ['--import', 'tsx'], serialization: 'advanced' }),
  );
  const ask = (message: Ask): Promise<Reply[]> =>
    Promise.all(
      ranks.map(async (child) => {
        child.send(message);
        const [reply] = (await once(child, 'message')) as [Reply];
        return reply;
      }),
    );
  const urls = (await ask({ kind: 'listen' })).map(({ url }) => url);
  await Promise.all(
    ranks.map(async (child, rank) => {
      child.send({ kind: 'meet', rank, urls } satisfies Ask);
      await once(child, 'message');
    }),
  );
  return { ask, stop: () => ranks.forEach((child) => child.kill()) };
}

async function startGloo(
  python: string,
  worldSize: number,
): Promise<{ run: (numBytes: number) => Promise<Cost>; stop: () => void }> {
  const folder = mkdtempSync(join(tmpdir(), 'gloo-'));
  const script = new URL('peers/gloo_all_reduce.py', import.meta.url).pathname;
  const ranks: ChildProcess[] = [];
  const lines = await Promise.all(
    Array.from({ length: worldSize }, async (_, rank) => {
      const child = spawn(python, [script, String(rank), String(worldSize), join(folder, 'store')], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      ranks.push(child);
      const reader = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
      await reader.next();
      return { child, reader };
    }),
  );
  const run = async (numBytes: number): Promise<Cost> => {
    const costs = await Promise.all(
      lines.map(async ({ child, reader }) => {
        child.stdin.write(`${numBytes}\n`);
        const answer: IteratorResult<string, unknown> = await reader.next();
        if (answer.done === true) throw new Error('a gloo rank ended');
        const [ms, cpuMs] = answer.value.split(' ').map(Number);
        return { ms: ms!, cpuMs: cpuMs! };
      }),
    );
    return combine(costs);
  };
  const stop = (): void => {
    for (const child of ranks) child.kill();
    rmSync(folder, { recursive: true });
  };
  return { run, stop };
}

function combine(costs: readonly Cost[]): Cost {
  return { ms: Math.max(...costs.map(({ ms }) => ms)), cpuMs: costs.reduce((sum, { cpuMs }) => sum + cpuMs, 0) };
}

const exmixCost = (replies: readonly Reply[]): Cost =>
  combine(replies.map(({ totalMs, cpuMs }) => ({ ms: totalMs, cpuMs })));

/** `123.4 (best 100.0, cpu 200)` */
function show(costs: readonly Cost[]): string {
  const ms = costs.map((cost) => cost.ms);
  const cpuMs = median(costs.map((cost) => cost.cpuMs));
  return `${median(ms).toFixed(1)} (best ${Math.min(...ms).toFixed(1)}, cpu ${cpuMs.toFixed(0)})`;
}

/** How many times as fast as gloo, by medians and by the best rounds. */
function ratio(gloo: readonly Cost[], exmix: readonly Cost[]): string {
  const [g, e] = [gloo, exmix].map((costs) => costs.map(({ ms }) => ms));
  return `${(median(g!) / median(e!)).toFixed(2)}× (${(Math.min(...g!) / Math.min(...e!)).toFixed(2)}×)`;
}

console.log('| N | MiB | gloo ms | exmix ms | ratio | verify off ms | ratio | of it reduce / check ms |');
console.log('|---|---|---|---|---|---|---|---|');
for (const worldSize of numbers(args.worlds)) {
  const exmix = await startExmix(worldSize);
  const gloo = args.python === undefined ? null : await startGloo(args.python, worldSize);
  for (const mebibytes of numbers(args.sizes)) {
    const numBytes = mebibytes * 2 ** 20;
    const [frameBytes, window, bucketBytes] = [
      Number(args.frame) * 1024,
      Number(args.window),
      Number(args.bucket) * 2 ** 20,
    ];
    await exmix.ask({ kind: 'connect', numBytes, linkKind, socket, frameBytes, window, bucketBytes, precision });
    const costs: Record<'gloo' | 'on' | 'off', Cost[]> = { gloo: [], on: [], off: [] };
    const split: Reply[] = [];
    for (let round = -numWarmUp; round < numRounds; round++) {
      const replies: Record<'on' | 'off', Reply[]> = { on: [], off: [] };
      let glooCost: Cost | null = null;
      // The order turns, so that no contender always comes after the same one.
      for (let turn = 0; turn < 3; turn++) {
        const contender = (['gloo', 'on', 'off'] as const)[(round + numWarmUp + turn) % 3]!;
        if (contender !== 'gloo') {
          await exmix.ask({ kind: 'fill' }); // an answer from all is the barrier, as gloo's rank has one
          replies[contender] = await exmix.ask({ kind: 'run', verify: contender === 'on' });
        } else if (gloo !== null) glooCost = await gloo.run(numBytes);
      }
      const { on, off } = replies;
      if (new Set([...on, ...off].map(({ digest }) => digest)).size !== 1)
        throw new Error('the ranks hold different sums');
      if (round < 0) continue; // first touch of the memory
      if (glooCost !== null) costs.gloo.push(glooCost);
      costs.on.push(exmixCost(on));
      costs.off.push(exmixCost(off));
      split.push(on[0]!);
    }
    const parts = [split.map(({ reduceMs }) => reduceMs), split.map(({ checkMs }) => checkMs)];
    console.log(
      `| ${worldSize} | ${mebibytes} | ${show(costs.gloo)} | ${show(costs.on)} | ${ratio(costs.gloo, costs.on)} ` +
        `| ${show(costs.off)} | ${ratio(costs.gloo, costs.off)} | ${parts.map((ms) => median(ms).toFixed(1)).join(' / ')} |`,
    );
  }
  exmix.stop();
  gloo?.stop();
}
