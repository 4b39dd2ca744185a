/**
 * Compares packing strategies on the same draws of the synthetic ExMix (planner-mixture.ts): rows needed, fill, time, by look-ahead.
 *
 * Look-ahead: number of draws that are packed together (the plan's `windowDraws`). A third of them are supervised; only these are packed here,
 * because segments of C4 fill their rows alone. A row's fill is the larger of inputs used / limit and targets used / limit. `least` is the
 * smallest number of rows for the tokens. Only the product's strategy is optimised, so compare rows of the others, not times.
 * Run: node --import tsx bench/planner-packing.ts
 */
import { computeFills, packRows, type PackedRows } from '../mixture/plan/packing.ts';
import { computeWeights, drawTasks } from '../mixture/plan/draws.ts';
import { createPermutation } from '../mixture/plan/permutation.ts';
import { RandomStream } from '../shared/random.ts';
import { LIMITS, makeSyntheticMixture } from './planner-mixture.ts';
import { mean } from '../shared/statistics.ts';

const NUM_DRAWS = 131_072;
const { inputsLimit, targetsLimit } = LIMITS;

interface Lengths {
  readonly inputs: Int32Array;
  readonly targets: Int32Array;
}
type Strategy = (lengths: Lengths) => PackedRows;

function toPacked(rows: readonly (readonly number[])[]): PackedRows {
  const starts = Int32Array.from({ length: rows.length + 1 }, () => 0);
  rows.forEach((row, i) => (starts[i + 1] = starts[i]! + row.length));
  return { starts, members: Int32Array.from(rows.flat()) };
}

/**
 * Packs examples in the given order: each goes into the first or the fullest open row in which it fits, or opens a new one.
 * @param maxOpen limit of open rows; at the limit, the fullest one is closed for a new one
 */
function packInto(order: readonly number[], { inputs, targets }: Lengths, choose: 'first' | 'best', maxOpen: number) {
  const rows: number[][] = [];
  const open: { row: number[]; inputs: number; targets: number }[] = [];
  for (const i of order) {
    let chosenIndex = -1;
    for (let k = 0; k < open.length; k++) {
      const { inputs: freeInputs, targets: freeTargets } = open[k]!;
      if (freeInputs < inputs[i]! || freeTargets < targets[i]!) continue;
      if (choose === 'first') {
        chosenIndex = k;
        break;
      }
      const best = open[chosenIndex];
      if (best === undefined || freeInputs < best.inputs || (freeInputs === best.inputs && freeTargets < best.targets))
        chosenIndex = k;
    }
    if (chosenIndex === -1) {
      if (open.length === maxOpen) {
        let fullest = 0;
        open.forEach((row, k) => (fullest = row.inputs < open[fullest]!.inputs ? k : fullest));
        open.splice(fullest, 1);
      }
      const row: number[] = [];
      rows.push(row);
      chosenIndex = open.push({ row, inputs: inputsLimit, targets: targetsLimit }) - 1;
    }
    const chosen = open[chosenIndex]!;
    chosen.row.push(i);
    chosen.inputs -= inputs[i]!;
    chosen.targets -= targets[i]!;
    if (chosen.inputs === 0 || chosen.targets === 0) open.splice(chosenIndex, 1);
  }
  return rows;
}

const asDrawn = ({ inputs }: Lengths) => Array.from(inputs.keys());
function bySize(lengths: Lengths): number[] {
  const size = (i: number) => lengths.inputs[i]! * targetsLimit + lengths.targets[i]! * inputsLimit;
  return asDrawn(lengths).sort((a, b) => size(b) - size(a));
}

/** Groups examples by length; each bucket is packed first-fit into its own rows. */
function inBuckets(lengths: Lengths, numBuckets: number): number[][] {
  const bucketOf = (i: number) =>
    Math.floor(Math.max(lengths.inputs[i]! / (inputsLimit + 1), lengths.targets[i]! / (targetsLimit + 1)) * numBuckets);
  return Array.from({ length: numBuckets }, (_, bucket) =>
    packInto(
      asDrawn(lengths).filter((i) => bucketOf(i) === bucket),
      lengths,
      'first',
      Infinity,
    ),
  ).flat();
}

const STRATEGIES: readonly (readonly [string, Strategy])[] = [
  ['as they come, one open row', (lengths) => toPacked(packInto(asDrawn(lengths), lengths, 'first', 1))],
  ['first fit, 10 open rows', (lengths) => toPacked(packInto(asDrawn(lengths), lengths, 'first', 10))],
  ['first fit, 64 open rows', (lengths) => toPacked(packInto(asDrawn(lengths), lengths, 'first', 64))],
  ['first fit', (lengths) => toPacked(packInto(asDrawn(lengths), lengths, 'first', Infinity))],
  ['best fit', (lengths) => toPacked(packInto(asDrawn(lengths), lengths, 'best', Infinity))],
  ['8 length buckets, first fit in each', (lengths) => toPacked(inBuckets(lengths, 8))],
  ['first fit, decreasing', (lengths) => toPacked(packInto(bySize(lengths), lengths, 'first', Infinity))],
  ['best fit, decreasing', (lengths) => toPacked(packInto(bySize(lengths), lengths, 'best', Infinity))],
  ['the product: best fit, decreasing, by cells', ({ inputs, targets }) => packRows(inputs, targets, LIMITS)],
];

const { tasks, shares } = makeSyntheticMixture();
const draws = drawTasks(computeWeights(shares), new Float64Array(tasks.length), NUM_DRAWS);
new RandomStream([3]).shuffle(draws);
const orders = tasks.map(({ numExamples }, task) => createPermutation([3, task], numExamples));
const counts = new Int32Array(tasks.length);
const examples = Array.from(draws, (task) => {
  const count = counts[task]!;
  counts[task] = count + 1;
  const index = orders[task]!(count % tasks[task]!.numExamples);
  return { task, inputs: tasks[task]!.inputsLength(index), targets: tasks[task]!.targetsLength(index) };
});

console.log('| strategy | look-ahead | rows | above the least | mean fill | ms of 1,000 rows |');
console.log('| --- | --- | --- | --- | --- | --- |');
for (const [name, strategy] of STRATEGIES)
  for (const lookAhead of [1024, 4096, 8192, 16384, 65536]) {
    let [numRows, usedInputs, usedTargets, ms] = [0, 0, 0, 0];
    const fills: number[] = [];
    for (let first = 0; first < NUM_DRAWS; first += lookAhead) {
      const window = examples.slice(first, first + lookAhead).filter(({ task }) => tasks[task]!.kind === 'supervised');
      const inputs = Int32Array.from(window, (example) => example.inputs);
      const targets = Int32Array.from(window, (example) => example.targets);
      const start = performance.now();
      const packed = strategy({ inputs, targets });
      ms += performance.now() - start;
      numRows += packed.starts.length - 1;
      usedInputs += inputs.reduce((a, b) => a + b, 0);
      usedTargets += targets.reduce((a, b) => a + b, 0);
      fills.push(...computeFills(packed, inputs, targets, LIMITS));
    }
    const least = Math.ceil(Math.max(usedInputs / inputsLimit, usedTargets / targetsLimit));
    const above = `${(100 * (numRows / least - 1)).toFixed(1)} %`;
    const cells = [name, lookAhead, numRows, above, mean(fills).toFixed(4), ((1000 * ms) / numRows).toFixed(1)];
    console.log(`| ${cells.join(' | ')} |`);
  }
