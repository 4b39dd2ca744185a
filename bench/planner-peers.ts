/**
 * Compares mixing and packing with grain (`MapDataset.mix`, `FirstFitPackIterDataset`, 64 open rows) and seqio (`sample_from_datasets` as in
 * its mixtures, `trim_and_pack_dataset`), in one run on the same synthetic ExMix: tasks, sizes, shares and lengths (planner-mixture.ts).
 *
 * All three return packed arrays of ids and segment numbers. exmix is measured for the plan alone (the work of the coordinator), and with the
 * arrays of the feed made from ids in memory. Each is measured by wall-clock and by CPU time of its process.
 * Run: node --import tsx bench/planner-peers.ts --python PYTHON [--rows 4000] [--rounds 3]
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createBatchArrays, placeExamples } from '../mixture/feed/batch.ts';
import { Planner } from '../mixture/plan/planner.ts';
import { TrainerError } from '../shared/errors.ts';
import { LIMITS, makeSyntheticMixture, NUM_SAMPLES } from './planner-mixture.ts';
import { median } from '../shared/statistics.ts';

const { values } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    rows: { type: 'string', default: '4000' },
    rounds: { type: 'string', default: '3' },
  },
});
const PEER = fileURLToPath(new URL('./peers/mixing_packing.py', import.meta.url));
const WINDOW_DRAWS = 8192;
const ROWS_PER_STEP = 2048;
const numRows = Number(values.rows);
const { tasks, shares } = makeSyntheticMixture();
const { inputsLimit, targetsLimit } = LIMITS;

interface Figures {
  readonly rows: number;
  readonly examples: number;
  readonly fill: number;
  readonly wallSeconds: number;
  readonly cpuSeconds: number;
}

/** Plans rows, 2,048 at a time; with `withArrays` also makes their arrays. */
function measureExmix(withArrays: boolean, count: number): Figures {
  const ids = new Int32Array(inputsLimit).fill(5);
  const batch = createBatchArrays(ROWS_PER_STEP, inputsLimit, targetsLimit);
  const planner = new Planner({ seed: 7, ...LIMITS, windowDraws: WINDOW_DRAWS, shares }, tasks);
  planner.nextRows(1);
  let [examples, fill] = [0, 0];
  const usage = process.cpuUsage();
  const start = performance.now();
  for (let rows = 0; rows < count; rows += ROWS_PER_STEP) {
    planner.nextRows(ROWS_PER_STEP).forEach((planned, index) => {
      let [inputs, targets] = [0, 0];
      const made = planned.map(({ task, index: example }) => {
        const lengths = [tasks[task]!.inputsLength(example), tasks[task]!.targetsLength(example)] as const;
        inputs += lengths[0];
        targets += lengths[1];
        return { task, inputs: ids.subarray(0, lengths[0]), targets: ids.subarray(0, lengths[1]) };
      });
      if (withArrays) placeExamples(batch, index, made);
      examples += planned.length;
      fill += Math.max(inputs / inputsLimit, targets / targetsLimit);
    });
  }
  const wallSeconds = (performance.now() - start) / 1000;
  const { user, system } = process.cpuUsage(usage);
  const rows = Math.ceil(count / ROWS_PER_STEP) * ROWS_PER_STEP;
  return { rows, examples, fill: fill / rows, wallSeconds, cpuSeconds: (user + system) / 1e6 };
}

function measurePeer(name: 'grain' | 'seqio', mixtureFile: string): Figures {
  const { status, stdout, stderr } = spawnSync(values.python, [PEER, name, mixtureFile, String(numRows)], {
    encoding: 'utf8',
  });
  if (status !== 0)
    throw new TrainerError('PREREQUISITE_MISSING', `${name} ended with status ${String(status)}:\n${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as Figures;
}

const folder = mkdtempSync(join(tmpdir(), 'exmix-peers-'));
const mixtureFile = join(folder, 'mixture.json');
try {
  const numbers = Array.from({ length: NUM_SAMPLES }, (_, i) => i);
  const facts = tasks.map((task, i) => {
    const samples = numbers.slice(0, task.numExamples);
    const inputs = samples.map((index) => task.inputsLength(index));
    const targets = samples.map((index) => task.targetsLength(index));
    return { name: task.name, numExamples: task.numExamples, share: shares[i], inputs, targets };
  });
  writeFileSync(mixtureFile, JSON.stringify({ limits: [inputsLimit, targetsLimit], tasks: facts }));
  const ways: readonly (readonly [string, () => Figures])[] = [
    ['exmix, plan alone', () => measureExmix(false, 32 * numRows)],
    ['exmix, with arrays', () => measureExmix(true, 8 * numRows)],
    ['grain', () => measurePeer('grain', mixtureFile)],
    ['seqio', () => measurePeer('seqio', mixtureFile)],
  ];
  const rounds = Array.from({ length: Number(values.rounds) }, () => ways.map(([, measure]) => measure()));
  const medianOf = (of: (round: readonly Figures[]) => number): number => median(rounds.map(of));
  console.log(
    '| | rows/s | examples/s | rows per CPU second | examples a row | fill of all rows | with arrays, × (wall; CPU) |',
  );
  console.log('| --- | --- | --- | --- | --- | --- | --- |');
  ways.forEach(([name], way) => {
    const wall = (round: readonly Figures[], i: number) => round[i]!.rows / round[i]!.wallSeconds;
    const cpu = (round: readonly Figures[], i: number) => round[i]!.rows / round[i]!.cpuSeconds;
    const cells = [
      name,
      medianOf((round) => wall(round, way)).toFixed(0),
      medianOf((round) => round[way]!.examples / round[way]!.wallSeconds).toFixed(0),
      medianOf((round) => cpu(round, way)).toFixed(0),
      medianOf((round) => round[way]!.examples / round[way]!.rows).toFixed(2),
      medianOf((round) => round[way]!.fill).toFixed(4),
      way < 2
        ? ''
        : `${medianOf((round) => wall(round, 1) / wall(round, way)).toFixed(1)}; ${medianOf((round) => cpu(round, 1) / cpu(round, way)).toFixed(1)}`,
    ];
    console.log(`| ${cells.join(' | ')} |`);
  });
} finally {
  rmSync(folder, { recursive: true });
}
