/**
 * Measures the planner at the paper's size (planner-mixture.ts): time of a step from draws to bytes, fill of its rows, memory of the process.
 *
 * Times are of one thread. Only a step that plans a window takes long; the longest one plans a whole window. Memory is the resident set of this
 * process after garbage collection: empty, with the mixture's lengths, and with the planner.
 * Run: node --expose-gc --import tsx bench/planner.ts [--rows 2048] [--steps 60] [--window 8192]
 */
import { parseArgs } from 'node:util';
import { computeFills, packRows } from '../mixture/plan/packing.ts';
import { createPermutation } from '../mixture/plan/permutation.ts';
import { encodeRows } from '../mixture/plan/planned-rows.ts';
import { Planner } from '../mixture/plan/planner.ts';
import { computeWeights, drawTasks } from '../mixture/plan/draws.ts';
import { mean } from '../shared/statistics.ts';

const { values } = parseArgs({
  options: {
    rows: { type: 'string', default: '2048' },
    steps: { type: 'string', default: '60' },
    window: { type: 'string', default: '8192' },
  },
});
const [rowsPerStep, numSteps, mainWindow] = [values.rows, values.steps, values.window].map(Number) as [
  number,
  number,
  number,
];
const residentMiB = () => {
  for (let i = 0; i < 4; i++) globalThis.gc?.();
  return process.memoryUsage().rss / 2 ** 20;
};
const emptyMiB = residentMiB();
const { LIMITS, makeSyntheticMixture } = await import('./planner-mixture.ts');
const { tasks, shares } = makeSyntheticMixture();
const lengthsMiB = residentMiB();
const planner = new Planner({ seed: 7, ...LIMITS, windowDraws: mainWindow, shares }, tasks);

const stepMs: number[] = [];
const totals = { examples: 0, bytes: 0 };
const supervised = { rows: 0, fill: 0, examples: 0 };
const isDenoising = (task: number) => tasks[task]!.kind === 'denoising';
for (let step = 0; step < numSteps; step++) {
  const start = performance.now();
  const rows = planner.nextRows(rowsPerStep);
  const encoded = encodeRows(rows);
  stepMs.push(performance.now() - start);
  totals.bytes += encoded.length;
  for (const row of rows) {
    totals.examples += row.length;
    if (row.some(({ task }) => isDenoising(task))) continue;
    let [inputs, targets] = [0, 0];
    for (const { task, index } of row) {
      inputs += tasks[task]!.inputsLength(index);
      targets += tasks[task]!.targetsLength(index);
    }
    supervised.rows += 1;
    supervised.examples += row.length;
    supervised.fill += Math.max(inputs / LIMITS.inputsLimit, targets / LIMITS.targetsLimit);
  }
}
const plannedMiB = residentMiB();
const numExamples = tasks.reduce((sum, task) => sum + (task.kind === 'supervised' ? task.numExamples : 0), 0);
const sorted = [...stepMs].sort((a, b) => a - b);
console.log(
  `${tasks.length} tasks, ${numExamples} supervised examples, ${tasks.at(-1)!.numExamples} segments; limits ${LIMITS.inputsLimit}/${LIMITS.targetsLimit}`,
);
console.log(
  `memory: ${emptyMiB.toFixed(0)} MiB before, ${lengthsMiB.toFixed(0)} with lengths, ${plannedMiB.toFixed(0)} with the plan after ${numSteps} steps; ` +
    `cursor ${JSON.stringify(planner.cursor()).length} B as JSON`,
);
console.log(
  `steps of ${rowsPerStep} rows, windows of ${mainWindow} draws: mean ${mean(stepMs).toFixed(1)} ms, median ${sorted[sorted.length >> 1]!.toFixed(1)}, longest ${sorted.at(-1)!.toFixed(1)}; ` +
    `${Math.round((1000 * rowsPerStep) / mean(stepMs))} rows/s, ${Math.round((1000 * totals.examples) / numSteps / mean(stepMs))} examples/s, ${(totals.bytes / numSteps / 1024).toFixed(1)} KiB a step`,
);
console.log(
  `fill of supervised rows ${(supervised.fill / supervised.rows).toFixed(4)}, ${(supervised.examples / supervised.rows).toFixed(2)} examples a row`,
);

/** Time of the fastest of several calls, ms. */
function time(work: () => unknown, repeats = 5): number {
  let best = Infinity;
  for (let i = 0; i < repeats; i++) {
    const start = performance.now();
    work();
    best = Math.min(best, performance.now() - start);
  }
  return best;
}

const permute = createPermutation([1, 2, 3], 300_000);
const permuteMs = time(() => {
  for (let k = 0; k < 100_000; k++) permute(k);
});
console.log(`permutation: ${((permuteMs * 1e6) / 100_000).toFixed(0)} ns an example`);
console.log('| window | draw ms | pack ms | plan ms | rows | steps a window | fill of supervised rows | fill of all |');
console.log('| --- | --- | --- | --- | --- | --- | --- | --- |');
for (const windowDraws of [1024, 2048, 4096, 8192, 16384, 32768, 65536]) {
  const weights = computeWeights(shares);
  const zeros = () => new Float64Array(tasks.length);
  const draws = drawTasks(weights, zeros(), windowDraws);
  const inputs = draws.map((task, i) => tasks[task]!.inputsLength(i % tasks[task]!.numExamples));
  const targets = draws.map((task, i) => tasks[task]!.targetsLength(i % tasks[task]!.numExamples));
  const packed = packRows(inputs, targets, LIMITS);
  const fills = computeFills(packed, inputs, targets, LIMITS);
  const supervisedFills = fills.filter((_, row) => !isDenoising(draws[packed.members[packed.starts[row]!]!]!));
  const cells = [
    windowDraws,
    time(() => drawTasks(weights, zeros(), windowDraws)).toFixed(1),
    time(() => packRows(inputs, targets, LIMITS)).toFixed(1),
    time(() => new Planner({ seed: 7, ...LIMITS, windowDraws, shares }, tasks)).toFixed(1),
    fills.length,
    (fills.length / rowsPerStep).toFixed(1),
    mean(supervisedFills).toFixed(4),
    mean(fills).toFixed(4),
  ];
  console.log(`| ${cells.join(' | ')} |`);
}
