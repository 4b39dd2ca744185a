/**
 * CPU time from starting a command to its end, to "coordinator listens", or to "worker ready", of two checkouts in turns.
 *
 *   node --import tsx bench/start-up.ts --before FOLDER --after FOLDER [--times 9] [--engine wasm]
 *
 * User and system time of the process with its threads; medians, and the smallest and largest. Each checkout has its node_modules. A first
 * round, which builds the package and prepares the demo, is not counted. Linux: reads /proc.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { assertInvariant, TrainerError } from '../shared/errors.ts';
import { median } from '../shared/statistics.ts';

const DEADLINE_MS = 120_000;
const POLL_INTERVAL_MS = 2;
const TOKEN = 'start-up-start-up-start-up';

const { values: flags } = parseArgs({
  options: {
    before: { type: 'string' },
    after: { type: 'string' },
    times: { type: 'string', default: '9' },
    engine: { type: 'string', default: 'wasm' },
  },
});
const { before, after, times, engine } = flags;
assertInvariant(before !== undefined && after !== undefined, '--before and --after name checkouts');
const ticksPerSecond = Number(spawnSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }).stdout);

interface Figures {
  readonly version: number;
  readonly help: number;
  readonly status: number;
  readonly coordinator: number;
  readonly worker: number;
}

/** CPU seconds of a command from start to end. */
function ofCommand(exmix: string, args: readonly string[]): number {
  const shell = 'TIMEFORMAT="%3U %3S"; time "$@" >/dev/null 2>&1';
  const { stderr, status } = spawnSync('bash', ['-c', shell, 'bash', process.execPath, exmix, ...args], {
    encoding: 'utf8',
  });
  assertInvariant(status === 0, `exmix ${args.join(' ')} ended with ${status}`);
  return stderr
    .trim()
    .split(' ')
    .reduce((sum, seconds) => sum + Number(seconds), 0);
}

/** CPU seconds of a running process with its threads. */
function cpuSeconds(pid: number): number {
  // The name in brackets may have spaces: fields are counted after it; utime and stime are the 14th and 15th of all.
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /u, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

async function logged(file: string, message: string, child: ChildProcess): Promise<string> {
  const endMs = Date.now() + DEADLINE_MS;
  while (Date.now() < endMs) {
    assertInvariant(child.exitCode === null, `the process ended before "${message}"`);
    const text = existsSync(file) ? readFileSync(file, 'utf8') : '';
    const line = text.split('\n').find((one) => one.includes(`"msg":"${message}"`));
    if (line !== undefined) return line;
    await sleep(POLL_INTERVAL_MS);
  }
  throw new TrainerError('RENDEZVOUS_TIMEOUT', `no "${message}" in ${file} within ${DEADLINE_MS} ms`);
}

async function measure(checkout: string): Promise<Figures> {
  const exmix = join(checkout, 'cli/exmix.mjs');
  const folder = mkdtempSync(join(tmpdir(), 'exmix-start-up-'));
  const children: ChildProcess[] = [];
  const start = (args: readonly string[]): ChildProcess & { pid: number } => {
    const env = { ...process.env, EXMIX_TOKEN: TOKEN };
    const child = spawn(process.execPath, [exmix, ...args], { stdio: 'ignore', env });
    children.push(child);
    return child as ChildProcess & { pid: number };
  };
  try {
    const runDir = join(folder, 'run');
    const log = join(runDir, 'coordinator.jsonl');
    // Two workers are waited for and one comes: it is ready and idle when its time is read.
    const run = ['--preset', 'demo', '--engine', engine, '--run-dir', runDir, '--min-workers', '2'];
    const coordinator = start(['coordinator', ...run]);
    const listens = JSON.parse(await logged(log, 'coordinator listens', coordinator)) as { url: string };
    const coordinatorSeconds = cpuSeconds(coordinator.pid);
    const worker = start(['worker', '--url', listens.url, '--id', 'w']);
    await logged(log, 'worker ready', worker);
    const workerSeconds = cpuSeconds(worker.pid);
    return {
      version: ofCommand(exmix, ['--version']),
      help: ofCommand(exmix, ['--help']),
      status: ofCommand(exmix, ['status', runDir]),
      coordinator: coordinatorSeconds,
      worker: workerSeconds,
    };
  } finally {
    await Promise.all(
      children.map(async (child) => {
        const ended = new Promise((resolve) => child.once('exit', resolve));
        if (child.kill('SIGKILL')) await ended;
      }),
    );
    rmSync(folder, { recursive: true, force: true });
  }
}

const measured: Record<'before' | 'after', Figures[]> = { before: [], after: [] };
for (let round = 0; round <= Number(times); round++)
  for (const [name, checkout] of [
    ['before', before],
    ['after', after],
  ] as const) {
    const figures = await measure(checkout);
    if (round > 0) measured[name].push(figures);
  }
const format = (name: 'before' | 'after', key: keyof Figures): string => {
  const all = measured[name].map((figures) => figures[key]);
  return `${median(all).toFixed(2)} (${Math.min(...all).toFixed(2)}-${Math.max(...all).toFixed(2)})`;
};
console.log('| CPU seconds | before | after |\n| --- | --- | --- |');
for (const [key, label] of [
  ['version', '`exmix --version`'],
  ['help', '`exmix --help`'],
  ['status', '`exmix status RUN`'],
  ['coordinator', '`exmix coordinator`, start to listening'],
  ['worker', '`exmix worker`, start to ready'],
] as const)
  console.log(`| ${label} | ${format('before', key)} | ${format('after', key)} |`);
