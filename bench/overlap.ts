/**
 * Measures the overlap of communication and computation. Two whole runs of `exmix train` on this host with the native engine, T5 v1.1 small on
 * the demo mixture, one lane of 4 rows of 256/64 tokens per worker: one with the default buckets, and one with a single bucket, which cannot
 * be sent before the last gradient. Both must give the same gradients, bit by bit. A probe (overlap-probe.ts) in every thread records times.
 *
 *   node --import tsx bench/overlap.ts [--workers 2] [--threads 2] [--steps 8] [--trace FILE]
 *
 * Needs an installed engine (exmix engine install) and about 4.5 GiB of memory per worker. --threads: threads of each engine. --trace: writes
 * Chrome trace events of the first run, for https://ui.perfetto.dev. Prints medians over the steps after the first two; overlap-measure.ts
 * defines them. Workers on one host share its cores, so communication beside a computation also slows it down.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadConfig } from '../shared/config/load-config.ts';
import { assertInvariant } from '../shared/errors.ts';
import { parameterSpecs } from '../worker/model/parameters.ts';
import { planGradient } from '../worker/collective/plan-gradient.ts';
import { measureOverlap, type BucketSpan, type StepOverlap } from './overlap-measure.ts';
import type { ProbeRecord } from './overlap-probe.ts';
import { traceEvents, type WorkerRecords } from './overlap-trace.ts';
import { median } from '../shared/statistics.ts';

const MIB = 2 ** 20;
const ROWS = 4;
/** These steps include recording and allocation. */
const WARM_UP_STEPS = 2;
const EXMIX = fileURLToPath(new URL('../cli/exmix.mjs', import.meta.url));
const PROBE = new URL('./overlap-probe.mjs', import.meta.url).href;
const MIXTURE = fileURLToPath(new URL('../deploy/demo/mixture.yaml', import.meta.url));

const { values: flags } = parseArgs({
  options: {
    workers: { type: 'string', default: '2' },
    threads: { type: 'string', default: '2' },
    steps: { type: 'string', default: '8' },
    trace: { type: 'string' },
  },
});

interface Committed {
  readonly msg: string;
  readonly step: number;
  readonly gradDigest: string;
  readonly ms: Readonly<Record<'compute' | 'communicate' | 'total', number>>;
}

interface Run {
  readonly workers: readonly WorkerRecords[];
  readonly bucketBytes: readonly number[];
  readonly parameterNames: readonly string[];
  readonly steps: readonly Committed[];
  readonly load: string;
}

function readLines<T>(file: string): T[] {
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as T);
}

/** Runs a whole training in a folder that is removed afterwards. */
async function train(bucketBytes: number): Promise<Run> {
  const folder = mkdtempSync(join(tmpdir(), 'exmix-overlap-'));
  const [run, probes] = [join(folder, 'run'), join(folder, 'probes')];
  mkdirSync(probes);
  const settings = {
    'mixture.path': MIXTURE,
    'mixture.windowDraws': 4096,
    'featureLengths.inputs': 256,
    'featureLengths.targets': 64,
    'training.numLanes': flags.workers,
    'training.rowsPerStep': ROWS * Number(flags.workers),
    'training.microbatchRows': ROWS,
    'compute.threads': flags.threads,
    'collective.bucketBytes': bucketBytes,
  };
  const set = Object.entries(settings).flatMap(([name, value]) => ['--set', `${name}=${value}`]);
  const size = ['--workers', flags.workers, '--steps', flags.steps, '--run-dir', run];
  const args = ['train', '--preset', 'ext5-small', '--engine', 'native', '--device', 'cpu', ...size, ...set];
  const load = [loadavg()[0]!];
  const child = spawn(process.execPath, [EXMIX, ...args], {
    env: { ...process.env, NODE_OPTIONS: `--import ${PROBE}`, EXMIX_OVERLAP_FOLDER: probes },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  try {
    const [code] = (await once(child, 'exit')) as [number | null];
    assertInvariant(code === 0, `exmix train ended with ${code}`);
    load.push(loadavg()[0]!);
    const log = readLines<Committed & { workerId: string; pid: number }>(join(run, 'coordinator.jsonl'));
    const files = readdirSync(probes);
    const records = (pid: number, thread: string): ProbeRecord[] =>
      files
        .filter((name) => name.startsWith(`${pid}-${thread}-`))
        .flatMap((name) => readLines<ProbeRecord>(join(probes, name)));
    const workers = log
      .filter(({ msg }) => msg === 'worker started')
      .map(({ workerId, pid }) => ({ workerId, compute: records(pid, 'compute'), link: records(pid, 'link') }));
    const config = await loadConfig(join(run, 'config.yaml'), []);
    return {
      workers,
      bucketBytes: planGradient(config).buckets.map(({ startBytes, endBytes }) => endBytes - startBytes),
      parameterNames: parameterSpecs(config.model).map(({ name }) => name),
      steps: log.filter(({ msg }) => msg === 'step committed'),
      load: load.map((average) => average.toFixed(1)).join(' → '),
    };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function bucketSpans({ workers, bucketBytes }: Run, step: number): BucketSpan[] {
  const reduced = workers.map(({ link }) => {
    const found = link.find((record) => record.kind === 'reduced' && record.step === step);
    assertInvariant(found?.kind === 'reduced', `every worker reduced step ${step}`);
    return found;
  });
  return bucketBytes.map((bytes, bucket) => ({
    bytes,
    announcedMs: reduced.map(({ atMs, buckets }) => atMs + buckets[bucket]!.announcedMs),
    finalMs: reduced.map(({ atMs, buckets }) => atMs + buckets[bucket]!.finalMs),
  }));
}

/** For each worker, the time of the first announced bucket as a share of its computation. */
function firstAnnounced({ workers }: Run, step: number): number[] {
  return workers.flatMap(({ link }) =>
    link.flatMap((record) => {
      if (record.kind !== 'reduced' || record.step !== step) return [];
      const announced = record.buckets.map(({ announcedMs }) => announcedMs);
      return [Math.min(...announced) / Math.max(...announced)];
    }),
  );
}

function row(name: string, run: Run): string {
  const steps = run.steps.slice(WARM_UP_STEPS);
  const overlaps = steps.map(({ step }) => measureOverlap(bucketSpans(run, step)));
  const ms = (of: (overlap: StepOverlap) => number): string => median(overlaps.map(of)).toFixed(0);
  const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;
  const cells = [
    name,
    String(run.bucketBytes.length),
    percent(median(steps.flatMap(({ step }) => firstAnnounced(run, step)))),
    ms(({ movingMs }) => movingMs),
    `${ms(({ besideMs }) => besideMs)} (${percent(median(overlaps.map(({ besideMs, movingMs }) => besideMs / movingMs)))})`,
    ms(({ exposedMs }) => exposedMs),
    percent(median(overlaps.map(({ finalShare }) => finalShare))),
    median(steps.map(({ ms: { compute } }) => compute)).toFixed(0),
    median(steps.map(({ ms: { communicate } }) => communicate)).toFixed(0),
    median(steps.map(({ ms: { total } }) => total)).toFixed(0),
    run.load,
  ];
  return `| ${cells.join(' | ')} |`;
}

const early = await train(25 * MIB);
const late = await train(1024 * MIB);
const digests = [early, late].map(({ steps }) => steps.map(({ gradDigest }) => gradDigest).join(' '));
assertInvariant(digests[0] === digests[1], `the runs differ: ${digests.join(' and ')}`);
if (flags.trace !== undefined) {
  const traceEventsOfRun = traceEvents(early.workers, early.bucketBytes, early.parameterNames);
  writeFileSync(flags.trace, JSON.stringify({ traceEvents: traceEventsOfRun, displayTimeUnit: 'ms' }));
}
console.log(
  `${flags.workers} workers with ${flags.threads} threads each on ${availableParallelism()} cores, ` +
    `${early.steps.length - WARM_UP_STEPS} steps, medians in ms; the same digests in both runs\n`,
);
console.log(
  '| buckets | number | first leaves at | communication | of it beside | exposed | bytes final before the last gradient | compute | communicate (log) | total | load |',
);
console.log('|---|---|---|---|---|---|---|---|---|---|---|');
console.log(row('25 MiB', early));
console.log(row('one', late));
