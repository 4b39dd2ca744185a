/**
 * Measures the coordinator with 10, 100 and 1,000 workers.
 *
 *   node --expose-gc --import tsx bench/control-plane.ts [--workers 10,100,1000] [--steps 60] [--hold 5]
 *
 * Real: the whole coordinator with journal, ledger and log on disk, the plan of the paper's mixture (planner-mixture.ts; 2,048 rows in 1,024
 * lanes), and one WebSocket per worker over loopback with all messages of such a run. Simulated: the workers, in one other process
 * (control-plane-workers.ts) without tensors and data links, so only messages take time in a step.
 *
 * For each number of workers: time from the last `ready` to the formed generation; CPU time (user and system, all threads) of this process
 * for forming, for a second of heartbeats alone, and for a step; time from the death of a worker to the next generation and commit; the same
 * for a joining worker. The longest pause is the longest time in which the event loop did not turn. Memory is the peak of resident memory
 * above the value before the first worker.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { formatTable } from '../cli/text-table.ts';
import { Coordinator } from '../coordinator/coordinator.ts';
import { NO_LOCAL_WORKERS } from '../coordinator/membership/worker-host.ts';
import { openRun } from '../coordinator/resume/open-run.ts';
import { ScriptedLinks } from '../coordinator/testing/scripted-links.fixture.ts';
import { MemoryCheckpoints } from '../coordinator/testing/small-run.fixture.ts';
import type { PreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { systemClock } from '../shared/clock.ts';
import { checkConfig } from '../shared/config/load-config.ts';
import { TrainerError } from '../shared/errors.ts';
import { createLogger, type LogRecord } from '../shared/logger.ts';
import { webSocketTransport } from '../shared/transport/websocket-transport.ts';
import type { CrowdCommand, CrowdReply, Traffic } from './control-plane-workers.ts';
import { LIMITS, makeSyntheticMixture } from './planner-mixture.ts';

const TOKEN = 'a token of the bench';
const NUM_LANES = 1024;
const ROWS_PER_STEP = 2048;
/** Steps that are not measured: compilation, and the first windows. */
const WARM_UP_STEPS = 10;
/** Limit of each wait, ms. */
const DEADLINE_MS = 120_000;
/** Between two polls of log and memory, ms. */
const POLL_INTERVAL_MS = 20;

const { values: flags } = parseArgs({
  options: {
    workers: { type: 'string', default: '10,100,1000' },
    steps: { type: 'string', default: '60' },
    hold: { type: 'string', default: '5' },
  },
});
const [numSteps, holdSeconds] = [Number(flags.steps), Number(flags.hold)];

/** A record of the coordinator's log, with the time and the CPU time of the process. */
interface Moment {
  readonly record: LogRecord;
  readonly atMs: number;
  readonly cpuMs: number;
}

/** The log as a list of moments to wait for. */
class Timeline {
  readonly #moments: Moment[] = [];
  /** Peak of resident memory over all polls. */
  peakMiB = 0;

  add(record: LogRecord): void {
    // Reading CPU time is expensive, and a thousand workers join.
    const isCounted = record.msg === 'generation formed' || record.msg === 'step committed';
    this.#moments.push({ record, atMs: performance.now(), cpuMs: isCounted ? cpuMs() : Number.NaN });
  }

  /** Waits for the first matching record at or after `from`. @throws INTERNAL after DEADLINE_MS */
  async next(msg: string, from = 0, matches: (record: LogRecord) => boolean = () => true): Promise<Moment> {
    const deadlineMs = performance.now() + DEADLINE_MS;
    for (;;) {
      const found = this.#moments.find(({ record, atMs }) => atMs >= from && record.msg === msg && matches(record));
      if (found !== undefined) return found;
      if (performance.now() > deadlineMs) throw new TrainerError('INTERNAL', `no "${msg}" within ${DEADLINE_MS} ms`);
      this.peakMiB = Math.max(this.peakMiB, residentMiB());
      await systemClock.sleep(POLL_INTERVAL_MS);
    }
  }

  last(msg: string): Moment {
    return this.#moments.findLast(({ record }) => record.msg === msg)!;
  }
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function residentMiB(): number {
  return process.memoryUsage.rss() / 2 ** 20;
}

const { tasks } = makeSyntheticMixture();
const sizes = tasks.map(({ name, kind, numExamples }) => ({ name, kind, numExamples }));
const mixture = {
  ...{ folder: '/prepared', hash: 'cd'.repeat(32), tokenizer: { hash: 'ef'.repeat(32) } },
  ...{ tasks, sizes, taskNames: tasks.map(({ name }) => name) },
} as unknown as PreparedMixture;

async function startCrowd(): Promise<{ crowd: ChildProcess; ask: (command: CrowdCommand) => Promise<CrowdReply> }> {
  const path = fileURLToPath(new URL('./control-plane-workers.ts', import.meta.url));
  const crowd = fork(path, { execArgv: ['--import', 'tsx'] });
  const reply = (): Promise<CrowdReply> =>
    new Promise((resolve) => crowd.once('message', (message) => resolve(message as CrowdReply)));
  await reply();
  return {
    crowd,
    ask: (command) => {
      const answer = reply();
      crowd.send(command);
      return answer;
    },
  };
}

interface Measured {
  readonly row: readonly (string | number)[];
  readonly traffic: Traffic;
  readonly committed: number;
}

async function measure(numWorkers: number): Promise<Measured> {
  const root = mkdtempSync(join(tmpdir(), 'exmix-control-plane-'));
  const config = checkConfig(
    {
      name: 'bench',
      model: {},
      featureLengths: { inputs: LIMITS.inputsLimit, targets: LIMITS.targetsLimit },
      mixture: { path: '/x.yaml' },
      training: { steps: 1_000_000, rowsPerStep: ROWS_PER_STEP, numLanes: NUM_LANES, microbatchRows: 1 },
      schedule: { kind: 'constant', value: 0.01 },
      cluster: { startWorkers: numWorkers, minWorkers: 1 },
    },
    'the bench',
  );
  const signal = new AbortController().signal;
  const lock = { gentle: signal, onLockWait: () => undefined };
  const opening = { config, mixture, clock: systemClock, signal, ...lock, requiredBytes: 1, allowMixtureChange: false };
  const run = await openRun({ ...opening, runDir: join(root, 'run') });
  const timeline = new Timeline();
  const log = createLogger({ file: run.folder.log, onRecord: (record) => timeline.add(record) });
  const { runId, epoch, start, before, journal, ledger, diskSpace } = run;
  const coordinator = new Coordinator({
    ...{ config, mixture, token: TOKEN, transport: webSocketTransport, workerHost: NO_LOCAL_WORKERS },
    opening: { runId, epoch, start, before },
    stores: {
      ...{ journal, ledger, diskSpace, runFolder: run.folder.folder },
      checkpoints: new MemoryCheckpoints(new ScriptedLinks()),
    },
    runtime: { clock: systemClock, log },
  });
  const url = await coordinator.listen(0);
  const { crowd, ask } = await startCrowd();
  const ended = coordinator.run(signal);
  ended.catch((error: unknown) => console.error(error)); // awaited at the end
  const pauses = monitorEventLoopDelay({ resolution: 1 });
  const longestPauseMs = (): number => {
    const ms = pauses.max / 1e6;
    pauses.reset();
    return ms;
  };
  const ids = Array.from({ length: numWorkers }, (_, i) => `w${String(i).padStart(4, '0')}`);
  globalThis.gc?.();
  const emptyMiB = residentMiB();
  crowd.send({ kind: 'hold', isHeld: true } satisfies CrowdCommand);
  pauses.enable();
  const [begunMs, begunCpuMs] = [performance.now(), cpuMs()];
  const joined = await ask({ kind: 'join', url, token: TOKEN, ids });
  const formed = await timeline.next('generation formed');
  const ready = timeline.last('worker ready');
  const formPauseMs = longestPauseMs();

  await systemClock.sleep(1_000);
  const quietCpuMs = cpuMs();
  await systemClock.sleep(1_000 * holdSeconds);
  const heartbeatsMs = (cpuMs() - quietCpuMs) / holdSeconds;

  longestPauseMs();
  crowd.send({ kind: 'hold', isHeld: false } satisfies CrowdCommand);
  const first = await timeline.next('step committed', 0, ({ step }) => step === WARM_UP_STEPS);
  const last = await timeline.next('step committed', 0, ({ step }) => step === WARM_UP_STEPS + numSteps);
  const stepCpuMs = (last.cpuMs - first.cpuMs) / numSteps;
  const stepMs = (last.atMs - first.atMs) / numSteps;
  const stepPauseMs = longestPauseMs();

  const diedMs = performance.now();
  crowd.send({ kind: 'die', id: ids[numWorkers >> 1]! } satisfies CrowdCommand);
  const left = await timeline.next('worker left', diedMs);
  const formedAgain = await timeline.next('generation formed', diedMs);
  const continued = await timeline.next('step committed', formedAgain.atMs);

  const late = await timeline.next('step committed', continued.atMs + 1_000);
  void ask({ kind: 'join', url, token: TOKEN, ids: ['w-late'] });
  const lateReady = await timeline.next('worker ready', late.atMs);
  const admitted = await timeline.next('generation formed', lateReady.atMs);
  const contributes = await timeline.next('step committed', admitted.atMs);

  const answer = await ask({ kind: 'count' });
  const traffic = answer.kind === 'traffic' ? answer.traffic : {};
  const committed = Number(timeline.last('step committed').record['step']);
  coordinator.requestStop('the bench is done');
  await ended;
  crowd.disconnect();
  pauses.disable();
  await run.close();
  rmSync(root, { recursive: true });
  if (joined.kind === 'joined' && joined.numRefused > 0) console.log(`${joined.numRefused} dials repeated`);
  const row = [
    numWorkers,
    Math.round(ready.atMs - begunMs),
    Math.round(formed.atMs - ready.atMs),
    Math.round(formed.cpuMs - begunCpuMs),
    Math.round(formPauseMs),
    heartbeatsMs.toFixed(1),
    stepCpuMs.toFixed(1),
    stepMs.toFixed(1),
    Math.round(stepPauseMs),
    Math.round(formedAgain.atMs - left.atMs),
    Math.round(continued.atMs - left.atMs),
    Math.round(admitted.atMs - lateReady.atMs),
    Math.round(contributes.atMs - lateReady.atMs),
    Math.round(timeline.peakMiB - emptyMiB),
  ];
  return { row, traffic, committed };
}

const HEAD = [
  'workers',
  'join ms',
  'form ms',
  'join+form CPU ms',
  'pause ms',
  'heartbeats CPU ms/s',
  'step CPU ms',
  'step ms',
  'pause ms',
  'death→formed ms',
  'death→commit ms',
  'ready→formed ms',
  'ready→commit ms',
  'memory MiB',
];

const results: Measured[] = [];
for (const numWorkers of flags.workers.split(',').map(Number)) results.push(await measure(numWorkers));
console.log(
  formatTable(
    HEAD,
    results.map(({ row }) => row),
  ),
);
const kinds = [...new Set(results.flatMap(({ traffic }) => Object.keys(traffic)))];
const rows = results.flatMap(({ row: [numWorkers], traffic, committed }) =>
  kinds.map((kind) => {
    const { messages = 0, bytes = 0 } = traffic[kind] ?? {};
    return [
      numWorkers!,
      kind,
      messages,
      Math.round(bytes / Math.max(1, messages)),
      (bytes / committed / 1024).toFixed(1),
    ];
  }),
);
console.log(formatTable(['workers', 'message', 'number', 'B each', 'KiB a step'], rows));
