/** Starts the processes of bench/all-reduce.ts: one per rank, of exmix and of gloo, on this host or each in its own name space. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Ask, Reply } from './all-reduce-rank.ts';
import { NETWORK_DEVICE, type Network } from './network.ts';

/** Cost of one all-reduce: milliseconds of the slowest rank, and total CPU milliseconds of all ranks. */
export interface Cost {
  readonly ms: number;
  readonly cpuMs: number;
}

export interface ExmixRanks {
  /** @returns one answer per rank, in rank order */
  ask(message: Ask): Promise<Reply[]>;
  stop(): void;
}

export interface GlooRanks {
  run(numBytes: number): Promise<Cost>;
  stop(): void;
}

const RANK = fileURLToPath(new URL('all-reduce-rank.ts', import.meta.url));
const GLOO_RANK = fileURLToPath(new URL('peers/gloo_all_reduce.py', import.meta.url));

/** @param network null: all on loopback */
export async function startExmix(worldSize: number, network: Network | null): Promise<ExmixRanks> {
  const ranks = Array.from({ length: worldSize }, (_, rank) => {
    const [command, ...args] = within(network, rank, [process.execPath, '--import', 'tsx', RANK]);
    return spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' });
  });
  const stop = endTogether(ranks);
  const askOne = async (rank: number, message: Ask): Promise<Reply> => {
    ranks[rank]!.send(message);
    const [reply] = (await once(ranks[rank]!, 'message')) as [Reply];
    return reply;
  };
  const askEach = (message: (rank: number) => Ask): Promise<Reply[]> =>
    Promise.all(ranks.map((_, rank) => askOne(rank, message(rank))));
  const listening = await askEach((rank) => ({ kind: 'listen', host: network?.hosts[rank] ?? '127.0.0.1' }));
  const members = listening.map(({ member }) => member);
  await askEach((rank) => ({ kind: 'meet', rank, members }));
  return { ask: (message) => askEach(() => message), stop };
}

/** @param network null: all on loopback @param python one with torch */
export async function startGloo(worldSize: number, network: Network | null, python: string): Promise<GlooRanks> {
  const folder = mkdtempSync(join(tmpdir(), 'gloo-'));
  const env = network === null ? process.env : { ...process.env, GLOO_SOCKET_IFNAME: NETWORK_DEVICE };
  const ranks = Array.from({ length: worldSize }, (_, rank) => {
    const own: [string, ...string[]] = [python, GLOO_RANK, String(rank), String(worldSize), join(folder, 'store')];
    const [command, ...args] = within(network, rank, own);
    return spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'], env });
  });
  const end = endTogether(ranks);
  const answers = ranks.map(({ stdout }) => createInterface({ input: stdout })[Symbol.asyncIterator]());
  await Promise.all(answers.map((lines) => lines.next()));
  const run = async (numBytes: number): Promise<Cost> => {
    const costs = ranks.map(async ({ stdin }, rank) => {
      stdin.write(`${numBytes}\n`);
      const answer: IteratorResult<string, unknown> = await answers[rank]!.next();
      if (answer.done === true) throw new Error('a gloo rank ended');
      const [ms, cpuMs] = answer.value.split(' ').map(Number);
      return { ms: ms!, cpuMs: cpuMs! };
    });
    return combineCosts(await Promise.all(costs));
  };
  const stop = (): void => {
    end();
    rmSync(folder, { recursive: true });
  };
  return { run, stop };
}

export function combineCosts(costs: readonly Cost[]): Cost {
  return { ms: Math.max(...costs.map(({ ms }) => ms)), cpuMs: costs.reduce((sum, { cpuMs }) => sum + cpuMs, 0) };
}

function within(
  network: Network | null,
  rank: number,
  command: readonly [string, ...string[]],
): readonly [string, ...string[]] {
  return network === null ? command : network.inside(rank, command);
}

/** If a rank exits, the bench exits, because it would wait for ever. @returns a function that ends all ranks */
function endTogether(ranks: readonly ChildProcess[]): () => void {
  let isStopping = false;
  for (const child of ranks)
    child.once('exit', () => {
      if (!isStopping) process.exit(1);
    });
  return () => {
    isStopping = true;
    for (const child of ranks) child.kill();
  };
}
