/**
 * Measures the time of a run of the demo from a disturbance to the next committed step. Disturbances: a worker is killed or stopped, the
 * coordinator is killed and restarted with the same command, a worker joins.
 *
 *   node --import tsx bench/recovery.ts [--engines native,wasm] [--kinds kill,stop,coordinator-kill,join] [--times 10] [--seed 1] [--keep]
 *
 * For each engine one run with 3 workers is disturbed repeatedly: the next disturbance comes after 3 workers have committed steps together, at
 * a random moment of a step. recovery-times.ts defines the measured times. Exit status 1 if the run failed.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { formatTable } from '../cli/text-table.ts';
import { RandomStream } from '../shared/random.ts';
import { median } from '../shared/statistics.ts';
import { DisturbedRun } from './recovery-run.ts';
import { DISTURBANCES, measureRecovery, stepTimeBefore, type Disturbance, type Recovery } from './recovery-times.ts';

/** Steps that three workers commit together before a disturbance. */
const QUIET_STEPS = 8;
const DEADLINE_MS = 90_000;

const { values: flags } = parseArgs({
  options: {
    engines: { type: 'string', default: 'native,wasm' },
    kinds: { type: 'string', default: DISTURBANCES.join(',') },
    times: { type: 'string', default: '10' },
    seed: { type: 'string', default: '1' },
    keep: { type: 'boolean', default: false },
  },
});

interface Measured extends Recovery {
  readonly stepMs: number;
}

/** Disturbs a run once and waits for its recovery. @param number of the disturbance, from 0 */
async function disturb(run: DisturbedRun, kind: Disturbance, number: number): Promise<Recovery & { sinceMs: number }> {
  const recovered = (sinceMs: number, workerId?: string): Promise<Recovery> =>
    run.until(`a step after ${kind}`, (records) => measureRecovery(kind, records, sinceMs, workerId));
  if (kind === 'coordinator-kill') {
    const sinceMs = await run.killCoordinator();
    return { ...(await recovered(sinceMs)), sinceMs };
  }
  if (kind === 'join') {
    const workerId = `joiner-${number}`;
    const sinceMs = Date.now();
    const worker = await run.startWorker(workerId);
    const recovery = await recovered(sinceMs, workerId);
    worker.kill('SIGTERM');
    return { ...recovery, sinceMs };
  }
  const workerId = `local-${number % 3}`;
  const sinceMs = Date.now();
  await run.processes.signal(workerId, kind === 'kill' ? 'SIGKILL' : 'SIGSTOP');
  const recovery = await recovered(sinceMs);
  if (kind === 'stop') await run.processes.signal(workerId, 'SIGCONT').catch(() => undefined); // it may have been killed and replaced
  return { ...recovery, sinceMs };
}

function report(engine: string, kind: Disturbance, measured: readonly Measured[]): void {
  const row = (what: string, of: (one: Measured) => number) => {
    const values = measured.map(of);
    return [what, ...[median(values), Math.min(...values), Math.max(...values)].map(Math.round)];
  };
  console.log(`\n${engine}, ${kind}, ${measured.length} times; ms`);
  console.log(
    formatTable(
      ['', 'median', 'least', 'most'],
      [
        row('to the next committed step', ({ totalMs }) => totalMs),
        ...measured[0]!.phases.map(({ name }, phase) => row(`  ${name}`, ({ phases }) => phases[phase]!.ms)),
        row('between committed steps', ({ pauseMs }) => pauseMs),
        row('a step before', ({ stepMs }) => stepMs),
      ],
    ),
  );
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interrupt.abort());
const random = new RandomStream([Number(flags.seed)]);
const kinds = flags.kinds.split(',') as Disturbance[];
for (const engine of flags.engines.split(',')) {
  const runDir = join(mkdtempSync(join(tmpdir(), 'exmix-recovery-')), engine);
  const run = new DisturbedRun(engine, runDir, DEADLINE_MS, interrupt.signal);
  let isWhole = false;
  try {
    for (const kind of kinds) {
      const measured: Measured[] = [];
      for (let number = 0; number < Number(flags.times); number++) {
        await run.untilTrained(3, QUIET_STEPS);
        await sleep(random.nextFloat() * 500, undefined, { signal: interrupt.signal });
        const recovery = await disturb(run, kind, number);
        measured.push({ ...recovery, stepMs: stepTimeBefore(run.records, recovery.sinceMs, QUIET_STEPS - 1) });
        const phases = recovery.phases.map(({ name, ms }) => `${name} ${ms}`).join(', ');
        console.log(`${engine}, ${kind} ${number + 1}: ${recovery.totalMs} ms (${phases})`);
      }
      report(engine, kind, measured);
    }
    isWhole = true;
  } finally {
    await run.end();
    if (isWhole && !flags.keep) rmSync(dirname(runDir), { recursive: true });
    else console.log(`kept: ${runDir}`);
  }
}
