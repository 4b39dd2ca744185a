/**
 * The peer of bench/recovery.ts: measures the recovery of torchrun with gloo after one of its three ranks was killed or stopped.
 *
 *   node --import tsx bench/recovery-torchrun.ts [--python PYTHON] [--times 10] [--step-ms 250] [--limit-s 120] [--shared-store] [--stop [--gloo-timeout-s 1800]]
 *
 * Ranks run peers/torchrun_elastic.py: it saves a snapshot each step, from which the restarted group resumes. torchrun must be in the folder
 * of PYTHON. A recovery ends with the first step that all three ranks of a later restart have done. The default sets
 * TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1. torchrun's own default is a store that agent and ranks share (--shared-store), with which restarted
 * ranks of torch 2.15 did not connect. Exit status 1 if it did not recover.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { assertInvariant } from '../shared/errors.ts';
import { median } from '../shared/statistics.ts';

const RANK = fileURLToPath(new URL('./peers/torchrun_elastic.py', import.meta.url));
const NUM_RANKS = 3;
const QUIET_STEPS = 8;
const POLL_INTERVAL_MS = 20;

const { values: flags } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    times: { type: 'string', default: '10' },
    'step-ms': { type: 'string', default: '250' },
    'limit-s': { type: 'string', default: '120' },
    'gloo-timeout-s': { type: 'string', default: '1800' },
    'shared-store': { type: 'boolean', default: false },
    stop: { type: 'boolean', default: false },
  },
});
const limitMs = Number(flags['limit-s']) * 1000;

interface RankStep {
  readonly atMs: number;
  readonly pid: number;
  readonly rank: number;
  readonly restart: number;
  readonly step: number;
}

/** Steps of the ranks so far. */
function readSteps(log: string): RankStep[] {
  if (!existsSync(log)) return [];
  const lines = readFileSync(log, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => {
    const [atMs, pid, rank, restart, step] = line.split(' ').map(Number);
    return { atMs: atMs!, pid: pid!, rank: rank!, restart: restart!, step: step! };
  });
}

/** Steps that all ranks of a restart have done, in order, each with the time of the last rank. */
function groupSteps(steps: readonly RankStep[], firstRestart: number): { restart: number; atMs: number }[] {
  const groups = new Map<string, RankStep[]>();
  for (const step of steps.filter(({ restart }) => restart >= firstRestart)) {
    const key = `${step.restart} ${step.step}`;
    groups.set(key, [...(groups.get(key) ?? []), step]);
  }
  return [...groups.values()]
    .filter(({ length }) => length === NUM_RANKS)
    .map((group) => ({ restart: group[0]!.restart, atMs: Math.max(...group.map(({ atMs }) => atMs)) }));
}

/** @returns undefined if `find` returns no value within the limit, or torchrun ends before */
async function within<T>(torchrun: ChildProcess, find: () => T | undefined): Promise<T | undefined> {
  for (const endMs = Date.now() + limitMs; Date.now() < endMs && torchrun.exitCode === null;) {
    const found = find();
    if (found !== undefined) return found;
    await sleep(POLL_INTERVAL_MS);
  }
  return undefined;
}

const folder = mkdtempSync(join(tmpdir(), 'exmix-torchrun-'));
const [snapshot, log] = [join(folder, 'snapshot.pt'), join(folder, 'steps')];
const elastic = [
  '--nnodes',
  '1',
  '--nproc-per-node',
  String(NUM_RANKS),
  '--max-restarts',
  String(2 * Number(flags.times)),
];
const rendezvous = ['--rdzv-backend', 'c10d', '--rdzv-endpoint', '127.0.0.1:0'];
const args = [...elastic, ...rendezvous, RANK, snapshot, log, flags['step-ms'], flags['gloo-timeout-s']];
const store = flags['shared-store'] ? {} : { TORCH_DISABLE_SHARE_RDZV_TCP_STORE: '1' };
const torchrun = spawn(join(dirname(flags.python), 'torchrun'), args, {
  stdio: 'ignore',
  env: { ...process.env, ...store },
});
const ended = new Promise((resolve) => torchrun.once('exit', resolve));
const costs: number[] = [];
let stoppedPid: number | undefined;
try {
  let restart = 0;
  while (costs.length < Number(flags.times)) {
    const quiet = await within(torchrun, () => {
      const done = groupSteps(readSteps(log), restart);
      return done.length >= QUIET_STEPS ? done : undefined;
    });
    assertInvariant(quiet !== undefined, `the ranks train; see ${folder}`);
    if (restart === 0) {
      const times = quiet.slice(-QUIET_STEPS).map(({ atMs }) => atMs);
      console.log(`a step of three ranks: ${Math.round((times.at(-1)! - times[0]!) / (times.length - 1))} ms`);
    }
    restart = quiet.at(-1)!.restart;
    const { pid } = readSteps(log).findLast((step) => step.rank === 1 && step.restart === restart)!;
    const sinceMs = Date.now();
    process.kill(pid, flags.stop ? 'SIGSTOP' : 'SIGKILL');
    stoppedPid = flags.stop ? pid : undefined;
    restart++;
    const first = await within(torchrun, () => groupSteps(readSteps(log), restart)[0]);
    if (first === undefined) {
      const how = torchrun.exitCode === null ? `not within ${flags['limit-s']} s` : 'torchrun has ended';
      console.log(`${how}: ${Math.round((Date.now() - sinceMs) / 1000)} s after the signal no step was done`);
      process.exitCode = 1;
      break;
    }
    costs.push(first.atMs - sinceMs);
    console.log(`restart ${first.restart}: ${costs.at(-1)} ms to the next step of all ranks`);
  }
} finally {
  torchrun.kill('SIGTERM');
  if (stoppedPid !== undefined)
    try {
      process.kill(stoppedPid, 'SIGKILL');
    } catch {
      // torchrun has ended it
    }
  await ended;
}
if (costs.length > 0)
  console.log(
    `${costs.length} times: median ${median(costs)}, least ${Math.min(...costs)}, most ${Math.max(...costs)} ms`,
  );
rmSync(folder, { recursive: true });
