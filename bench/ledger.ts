/**
 * The ledger on a synthetic ExMix: bytes an example, and the time to record and to read a step.
 *
 * The 107 tasks and sizes of golden/mixing.json plus one denoising task, R = 2; rows by the real planner, 2,048 a step in 64 lanes. Lengths
 * are log-normal by task (median inputs 20 to 480 tokens, targets 3 to 70, drawn from the task's name), losses normal around 2.
 * Run: node --import tsx bench/ledger.ts [--steps 120] [--windows 16384,65536]
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { decodeSteps } from '../coordinator/ledger/ledger-reader.ts';
import { LedgerWriter, sessionStart } from '../coordinator/ledger/ledger-writer.ts';
import { createStepRecorder } from '../coordinator/step/record-step.ts';
import { parseSegment } from '../coordinator/ledger/segment-format.ts';
import type { Deal } from '../coordinator/deal/step-dealer.ts';
import { encodeRows } from '../mixture/plan/planned-rows.ts';
import { Planner, type TaskLengths } from '../mixture/plan/planner.ts';
import { computeRates, PAPER_RATES } from '../mixture/plan/rates.ts';
import { computeSegmentLength, corruptedLengths } from '../mixture/plan/span-corruption.ts';
import { hashName, RandomStream } from '../shared/random.ts';
import { median } from '../shared/statistics.ts';

const LIMITS = { inputsLimit: 512, targetsLimit: 114 };
const ROWS = 2048;
const LANES = 64;
const SAMPLES = 4096;

interface GoldenMixing {
  tasks_without_size: string[];
  with_styleptb_total: { per_task: Record<string, { train_examples: number }> };
}

function syntheticTask(name: string, numExamples: number): TaskLengths {
  const random = new RandomStream([1, hashName(name)]);
  const inputs = 20 * 24 ** random.nextFloat();
  const targets = 3 * 23 ** (random.nextFloat() ** 2);
  const sample = (middle: number, limit: number) =>
    Uint16Array.from({ length: SAMPLES }, () =>
      Math.max(2, Math.min(limit, Math.round(middle * Math.exp(0.5 * random.nextNormal())))),
    );
  const [inputsSamples, targetsSamples] = [sample(inputs, LIMITS.inputsLimit), sample(targets, LIMITS.targetsLimit)];
  const at = (index: number, salt: number) => Math.imul(index ^ salt, 0x9e3779b1) >>> 20;
  return {
    name,
    numExamples,
    inputsLength: (index) => inputsSamples[at(index, 0)]!,
    targetsLength: (index) => targetsSamples[at(index, 0x5bd1)]!,
  };
}

function loadTasks(): TaskLengths[] {
  const text = readFileSync(new URL('../golden/mixing.json', import.meta.url), 'utf8');
  const golden = JSON.parse(text) as GoldenMixing;
  const sized = Object.entries(golden.with_styleptb_total.per_task).map(([name, task]) =>
    syntheticTask(name, task.train_examples),
  );
  const style = golden.tasks_without_size.map((name, i) => syntheticTask(name, i < 17 ? 2550 : 2549));
  const { inputsLength, targetsLength } = corruptedLengths(computeSegmentLength(LIMITS));
  const denoising = { name: 'c4', numExamples: 100_000_000 };
  return [...sized, ...style, { ...denoising, inputsLength: () => inputsLength, targetsLength: () => targetsLength }];
}

/** CPU time of all threads since `start`, ms. */
function cpuMs(start: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(start);
  return (user + system) / 1000;
}

async function measure(tasks: readonly TaskLengths[], windowDraws: number, steps: number): Promise<void> {
  const sizes = tasks.map(({ name, numExamples }) => ({
    name,
    numExamples,
    kind: name === 'c4' ? ('denoising' as const) : ('supervised' as const),
  }));
  const shares = computeRates(sizes, { ...PAPER_RATES, overrides: {} }).map(({ share }) => share);
  const planner = new Planner({ seed: 1, ...LIMITS, windowDraws, shares }, tasks);
  const folder = mkdtempSync(join(tmpdir(), 'exmix-bench-ledger-'));
  const { ledger } = await LedgerWriter.open({
    folder,
    epoch: 1,
    seed: 1,
    mixtureHash: '',
    tasks,
    start: sessionStart({ step: 0 }, tasks.length),
    committed: { epoch: 0, step: 0 },
  });
  const record = createStepRecorder(ledger, tasks);
  const random = new RandomStream([9]);
  const times: number[] = [];
  const cpuTimes: number[] = [];
  let numExamples = 0;
  for (let step = 1; step <= steps; step++) {
    const rows = planner.nextRows(ROWS);
    numExamples += rows.reduce((sum, row) => sum + row.length, 0);
    const perLane = ROWS / LANES;
    const lanes = Array.from({ length: LANES }, (_, i) => encodeRows(rows.slice(i * perLane, (i + 1) * perLane)));
    const taskLoss = Object.fromEntries(tasks.map(({ name }) => [name, 2 + 0.5 * random.nextNormal()]));
    const dealt = { step, learningRate: 0.01, targetTokens: 1 };
    const cursor = { ...planner.cursor(), rateChanges: [] };
    const deal: Deal = { ...dealt, lanes, cursor };
    const ms = { feed: 0, compute: 0, communicate: 0, update: 0, total: 0 };
    const summary = { ...dealt, loss: 2, zLoss: 0, taskLoss, taskTokens: {}, gradNorm: 1, gradDigest: step, ms };
    const start = performance.now();
    const cpu = process.cpuUsage();
    await record({ ...summary, inputTokens: 1, slowestRank: 0 }, deal, 1);
    times.push(performance.now() - start);
    cpuTimes.push(cpuMs(cpu));
  }
  await ledger.close();
  const paths = readdirSync(folder).map((name) => join(folder, name));
  const bytes = paths.reduce((sum, path) => sum + statSync(path).size, 0);
  const start = process.cpuUsage();
  let numRead = 0;
  for (const path of paths) {
    const segment = parseSegment(readFileSync(path));
    if (typeof segment === 'string') continue;
    for (const { readLanes } of decodeSteps(path, segment)) numRead += readLanes().flat(2).length;
  }
  const readMs = cpuMs(start);
  rmSync(folder, { recursive: true });
  console.log(
    `windows of ${windowDraws}: ${Math.round(numExamples / steps)} examples a step, ${Math.round(bytes / steps)} B a step, ` +
      `${(bytes / numExamples).toFixed(3)} B/example; medians of a step: recorded in ${median(times).toFixed(1)} ms, ` +
      `${median(cpuTimes).toFixed(1)} ms of CPU; read again ${Math.round(numRead / readMs)} examples a ms of CPU`,
  );
}

const { values } = parseArgs({
  options: { steps: { type: 'string', default: '120' }, windows: { type: 'string', default: '16384,65536' } },
});
for (const windowDraws of values.windows.split(','))
  await measure(loadTasks(), Number(windowDraws), Number(values.steps));
