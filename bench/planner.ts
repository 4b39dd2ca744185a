/**
 * Planner throughput and fill over a synthetic ExMix: the 107 tasks and sizes of golden/mixing.json plus one denoising task, R = 2.
 *
 * Lengths are invented but typical: log-normal with the medians below (inputs, targets, in tokens), cut to [2, limit], drawn once into
 * 4,096 samples a task and looked up by a hash of the example's number. StylePTB's 53,546 examples are divided evenly over its 21 tasks.
 * Run: node --expose-gc --import tsx bench/planner.ts [--rows 2048] [--steps 20]
 */

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { computeFills, packRows } from '../mixture/plan/packing.ts';
import { createPermutation } from '../mixture/plan/permutation.ts';
import { encodeRows } from '../mixture/plan/planned-rows.ts';
import { Planner, type TaskLengths } from '../mixture/plan/planner.ts';
import { computeRates, PAPER_RATES } from '../mixture/plan/rates.ts';
import { computeWeights, drawTasks } from '../mixture/plan/draws.ts';
import { computeSegmentLength, corruptedLengths } from '../mixture/plan/span-corruption.ts';
import { hashName, RandomStream } from '../shared/random.ts';

interface GoldenMixing {
  tasks_without_size: string[];
  with_styleptb_total: { per_task: Record<string, { train_examples: number }> };
}

const INPUTS_LIMIT = 512;
const TARGETS_LIMIT = 114;
const SAMPLES = 4096;

/** First match wins: name pattern, median inputs, spread of inputs (sigma of the logarithm), median targets, spread of targets. */
const LENGTH_FAMILIES: readonly (readonly [RegExp, number, number, number, number])[] = [
  [/cnn|xsum|summ|wiki_?lingua|billsum|big_?patent|newsroom|samsum|multi_news|reddit/i, 480, 0.5, 70, 0.5],
  [/squad|boolq|record|multirc|drop|quac|coqa|race|hotpot|news_?qa|tweet|narrative|cosmos|duorc/i, 240, 0.5, 6, 0.6],
  [/imdb|yelp|amazon|civil|gpt|fever|zest|review/i, 180, 0.8, 4, 0.4],
  [/natural_?questions|trivia|web_?q|kilt|nq|eli5|wow|t_?rex|zsre|aida/i, 24, 0.4, 8, 0.6],
  [/schema|dialog|wizard|top|taskmaster|multiwoz|clinc|hwu|banking|restaurant|personachat/i, 90, 0.7, 24, 0.6],
  [/styleptb|shakespear|paws|atis|geo|jobs|cogs|parsing|e2e|dart|web_?nlg|common|totto/i, 40, 0.5, 28, 0.5],
];
const DEFAULT_FAMILY = [/./, 60, 0.5, 4, 0.4] as const;

function syntheticTask(name: string, numExamples: number): TaskLengths {
  const [, inputs, inputsSpread, targets, targetsSpread] =
    LENGTH_FAMILIES.find(([pattern]) => pattern.test(name)) ?? DEFAULT_FAMILY;
  const random = new RandomStream([1, hashName(name)]);
  const sample = (median: number, spread: number, limit: number) =>
    Uint16Array.from({ length: SAMPLES }, () =>
      Math.max(2, Math.min(limit, Math.round(median * Math.exp(spread * random.nextNormal())))),
    );
  const inputsSamples = sample(inputs, inputsSpread, INPUTS_LIMIT);
  const targetsSamples = sample(targets, targetsSpread, TARGETS_LIMIT);
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
  const rawLength = computeSegmentLength({ inputsLimit: INPUTS_LIMIT, targetsLimit: TARGETS_LIMIT });
  const { inputsLength, targetsLength } = corruptedLengths(rawLength);
  const denoising: TaskLengths = {
    name: 'c4_denoising',
    numExamples: 300_000_000,
    inputsLength: () => inputsLength,
    targetsLength: () => targetsLength,
  };
  return [...sized, ...style, denoising];
}

/** Milliseconds of the fastest of several calls. */
function time(work: () => unknown, repeats = 7): number {
  let best = Infinity;
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    work();
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

const { values } = parseArgs({
  options: { rows: { type: 'string', default: '2048' }, steps: { type: 'string', default: '20' } },
});
const rowsPerStep = Number(values.rows);
const numSteps = Number(values.steps);
const tasks = loadTasks();
const rates = computeRates(
  tasks.map(({ name, numExamples }) => ({
    name,
    numExamples,
    kind: name === 'c4_denoising' ? ('denoising' as const) : ('supervised' as const),
  })),
  PAPER_RATES,
);
const shares = rates.map(({ share }) => share);
const limits = { inputsLimit: INPUTS_LIMIT, targetsLimit: TARGETS_LIMIT };
const lengthsOf = (draws: Int32Array) => ({
  inputs: draws.map((task, i) => tasks[task]!.inputsLength(i)),
  targets: draws.map((task, i) => tasks[task]!.targetsLength(i)),
});

console.log(`${tasks.length} tasks, ${rowsPerStep} rows a step, limits ${INPUTS_LIMIT}/${TARGETS_LIMIT}`);
const permute = createPermutation([1, 2, 3], 300_000);
const permuteMs = time(() => {
  for (let k = 0; k < 100_000; k++) permute(k);
});
console.log(`permutation: ${((permuteMs * 1e6) / 100_000).toFixed(0)} ns an example`);
console.log(
  'window      draw     pack     plan  supervised rows  fill of them  all rows  fill  examples/supervised row',
);
for (const windowDraws of [2048, 4096, 8192, 16384, 32768, 65536]) {
  const weights = computeWeights(shares);
  const draws = drawTasks(weights, new Float64Array(tasks.length), windowDraws);
  const drawMs = time(() => drawTasks(weights, new Float64Array(tasks.length), windowDraws));
  const { inputs, targets } = lengthsOf(draws);
  const packMs = time(() => packRows(inputs, targets, limits));
  const config = { seed: 7, ...limits, windowDraws, shares };
  const planMs = time(() => new Planner(config, tasks), 5);
  const packed = packRows(inputs, targets, limits);
  const fills = computeFills(packed, inputs, targets, limits);
  const isSupervised = (row: number) => draws[packed.members[packed.starts[row]!]!] !== tasks.length - 1;
  const supervised = fills.filter((_, row) => isSupervised(row));
  const mean = (numbers: Float64Array) => numbers.reduce((a, b) => a + b, 0) / numbers.length;
  const isSupervisedDraw = (i: number) => draws[i] !== tasks.length - 1;
  const numSupervised = draws.filter((_, i) => isSupervisedDraw(i)).length;
  const used = (lengths: Int32Array, limit: number) =>
    lengths.filter((_, i) => isSupervisedDraw(i)).reduce((a, b) => a + b, 0) / (supervised.length * limit);
  console.log(
    [
      String(windowDraws).padStart(6),
      `${drawMs.toFixed(1)} ms`.padStart(10),
      `${packMs.toFixed(1)} ms`.padStart(8),
      `${planMs.toFixed(1)} ms`.padStart(8),
      String(supervised.length).padStart(16),
      mean(supervised).toFixed(4).padStart(11),
      used(inputs, INPUTS_LIMIT).toFixed(3).padStart(7),
      used(targets, TARGETS_LIMIT).toFixed(3).padStart(7),
      (numSupervised / supervised.length).toFixed(2).padStart(8),
      String(fills.length).padStart(21),
      mean(fills).toFixed(4),
    ].join(' '),
  );
}

/** KiB held by one planner, as the mean of several. */
function measurePlannerKiB(collectGarbage: () => unknown): number {
  const held = () => {
    for (let i = 0; i < 3; i++) collectGarbage();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const config = { seed: 7, ...limits, windowDraws: 16384, shares };
  const planners = [new Planner(config, tasks)];
  const before = held();
  for (let i = 0; i < 8; i++) planners.push(new Planner(config, tasks));
  return (held() - before) / (planners.length - 1) / 1024;
}

const heldBy =
  globalThis.gc === undefined ? 'run with --expose-gc' : `${measurePlannerKiB(globalThis.gc).toFixed(0)} KiB`;
const planner = new Planner({ seed: 7, ...limits, windowDraws: 16384, shares }, tasks);
let bytes = 0;
let examples = 0;
const start = performance.now();
for (let step = 0; step < numSteps; step++) {
  const rows = planner.nextRows(rowsPerStep);
  examples += rows.reduce((sum, row) => sum + row.length, 0);
  bytes += encodeRows(rows).length;
}
const perStepMs = (performance.now() - start) / numSteps;
console.log(
  `steps of ${rowsPerStep} rows, windows of 16384 draws: ${perStepMs.toFixed(1)} ms a step (${((rowsPerStep / perStepMs) * 1000).toFixed(0)} rows/s, ` +
    `${((examples / numSteps / perStepMs) * 1000).toFixed(0)} examples/s), ${(bytes / numSteps / 1024).toFixed(1)} KiB encoded a step`,
);
console.log(
  `memory held by a planner: ${heldBy}; ` +
    `cursor ${JSON.stringify(planner.cursor()).length} B as JSON; process peak ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MiB`,
);
