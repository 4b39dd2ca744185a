/**
 * Measures the accuracy of bfloat16 gradients (docs/decisions/0014-bf16-on-the-wire.md).
 *
 * First it compares the losses of two runs of the demo that differ only in `training.gradientPrecision`. Then it computes real gradients of
 * batches of the demo's plan, at the initial and at the last parameters of the float32 run. It adds their lanes in the canonical tree with the
 * kernels of the arena, and compares with the sum in float64.
 *
 *   node --import tsx bench/gradient-precision.ts [--steps 60] [--engine native] [--lanes 4,16] [--batches 4]
 *
 * L2: norm of the error over the norm of the gradient, in total and for the worst parameter. Largest: maximum of |error| over the sum of the
 * lanes' magnitudes, which the decision bounds.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadRunMixture } from '../cli/run-mixture.ts';
import { planConfigOf } from '../coordinator/deal/plan-config.ts';
import { createBatchArrays, fillRow } from '../mixture/feed/batch.ts';
import { openPreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import type { PlannedRow } from '../mixture/plan/planned-rows.ts';
import { Planner } from '../mixture/plan/planner.ts';
import { prepareMixture } from '../mixture/prepare/prepare-mixture.ts';
import { readCheckpoint } from '../shared/checkpoint/read.ts';
import { loadConfig } from '../shared/config/load-config.ts';
import { assertInvariant } from '../shared/errors.ts';
import { planLaneTree } from '../shared/lane-tree.ts';
import { median } from '../shared/statistics.ts';
import { Arena, planArena } from '../worker/arena/arena.ts';
import type { BucketPlan, GradientPrecision } from '../worker/arena/bucket-plan.ts';
import { planGradient } from '../worker/collective/plan-gradient.ts';
import { createEngine } from '../worker/engine-choice/create-engine.ts';
import { initialiseParameters } from '../worker/model/initialise.ts';

const EXMIX = fileURLToPath(new URL('../cli/exmix.mjs', import.meta.url));
const DEMO = fileURLToPath(new URL('../deploy/presets/demo.yaml', import.meta.url));

const { values: flags } = parseArgs({
  options: {
    steps: { type: 'string', default: '60' },
    engine: { type: 'string', default: 'native' },
    lanes: { type: 'string', default: '4,16' },
    batches: { type: 'string', default: '4' },
  },
});
const folder = mkdtempSync(join(tmpdir(), 'exmix-precision-'));
const config = await loadConfig(DEMO, []);
const { featureLengths, training, seed } = config;

interface Committed {
  readonly msg: string;
  readonly step: number;
  readonly loss: number;
}

/** Trains the demo. @returns the loss of each step */
async function train(precision: GradientPrecision): Promise<number[]> {
  const settings = [`training.gradientPrecision=${precision}`, `checkpoint.everySteps=${flags.steps}`];
  const set = settings.flatMap((setting) => ['--set', setting]);
  const run = join(folder, precision);
  const args = ['--preset', 'demo', '--engine', flags.engine, '--workers', '2', '--steps', flags.steps];
  const child = spawn(process.execPath, [EXMIX, 'train', ...args, '--run-dir', run, ...set], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  assertInvariant(code === 0, `exmix train ended with ${code}`);
  const lines = readFileSync(join(run, 'coordinator.jsonl'), 'utf8').trimEnd().split('\n');
  const records = lines.map((line) => JSON.parse(line) as Committed);
  return records.filter(({ msg }) => msg === 'step committed').map(({ loss }) => loss);
}

/** Sums compared with the float64 sum. exmix does not offer the last one; it shows the cost of the other roundings. */
const SUMS = ['float32', 'bfloat16', 'bfloat16 at the root alone'] as const;

interface SumError {
  readonly l2: number;
  readonly worstL2: number;
  readonly largest: number;
}

/** The lanes' gradients in the layout of the plan. [numLanes][plan.gradientBytes / 4] */
type Lanes = readonly Float32Array[];

function sumInTree(plan: BucketPlan, lanes: Lanes): Arena {
  const laneTree = planLaneTree(lanes.length, [{ first: 0, end: lanes.length }]);
  const arena = new Arena(planArena({ plan, laneTree, rank: 0, frameBytes: 64, window: 1 }));
  for (const step of laneTree.folds[0]!.steps) {
    arena.floats(step.slot, 0, plan.gradientBytes / 4).set(lanes[step.lane]!);
    arena.fold(step, 0, plan.gradientBytes);
  }
  return arena;
}

function compare(plan: BucketPlan, lanes: Lanes, found: Float32Array): SumError {
  let [errorSquares, squares, worstL2, largest] = [0, 0, 0, 0];
  for (const { offsetBytes, numElements } of plan.parameters) {
    let [ownErrorSquares, ownSquares] = [0, 0];
    for (let i = offsetBytes / 4; i < offsetBytes / 4 + numElements; i++) {
      let [exact, magnitude] = [0, 0];
      for (const lane of lanes) {
        exact += lane[i]!;
        magnitude += Math.abs(lane[i]!);
      }
      const error = Math.abs(found[i]! - exact);
      ownErrorSquares += error ** 2;
      ownSquares += exact ** 2;
      if (magnitude > 0) largest = Math.max(largest, error / magnitude);
    }
    errorSquares += ownErrorSquares;
    squares += ownSquares;
    if (ownSquares > 0) worstL2 = Math.max(worstL2, Math.sqrt(ownErrorSquares / ownSquares));
  }
  return { l2: Math.sqrt(errorSquares / squares), worstL2, largest };
}

const plans = {
  float32: planGradient(config),
  bfloat16: planGradient({ ...config, training: { ...training, gradientPrecision: 'bfloat16' } }),
};

/** @param ofLane the gradient of each lane's rows, in the engine's order of parameters @returns the error of each kind of sum */
function measure(ofLane: readonly (readonly Float32Array[])[]): SumError[] {
  const flatten = (plan: BucketPlan): Float32Array[] =>
    ofLane.map((gradients) => {
      const flat = new Float32Array(plan.gradientBytes / 4);
      for (const [position, { offsetBytes }] of plan.parameters.entries())
        flat.set(gradients[gradients.length - 1 - position]!, offsetBytes / 4);
      return flat;
    });
  const error = (plan: BucketPlan, lanes: Lanes, arena: Arena): SumError =>
    compare(plan, lanes, arena.floats(0, 0, plan.gradientBytes / 4));
  const [lanes, narrowLanes] = [flatten(plans.float32), flatten(plans.bfloat16)];
  const wide = sumInTree(plans.float32, lanes);
  const wideSum = wide.floats(0, 0, plans.float32.gradientBytes / 4).slice();
  const root = sumInTree({ ...plans.float32, precision: 'bfloat16' }, [wideSum]); // with one lane, it is the root
  return [
    error(plans.float32, lanes, wide),
    error(plans.bfloat16, narrowLanes, sumInTree(plans.bfloat16, narrowLanes)),
    error(plans.float32, lanes, root),
  ];
}

const losses = { float32: await train('float32'), bfloat16: await train('bfloat16') };
console.log('| step | loss, float32 | loss, bfloat16 | difference |');
console.log('| --- | --- | --- | --- |');
const show = (x: number): string => x.toFixed(5);
for (const [index, wide] of losses.float32.entries()) {
  const [step, narrow] = [index + 1, losses.bfloat16[index]!];
  if (step === 1 || step % 10 === 0)
    console.log(`| ${step} | ${show(wide)} | ${show(narrow)} | ${show(narrow - wide)} |`);
}
const differences = losses.float32.map((wide, index) => Math.abs(losses.bfloat16[index]! - wide));
console.log(
  `over all ${differences.length} steps: mean |difference| ${show(differences.reduce((sum, x) => sum + x, 0) / differences.length)}`,
);
console.log(`largest ${show(Math.max(...differences))} nats\n`);

const { mixture, prepared: outDir } = loadRunMixture(config, undefined);
const { folder: preparedFolder } = await prepareMixture({ mixture, featureLengths, outDir });
const prepared = await openPreparedMixture(preparedFolder);
const { engine } = await createEngine({ name: flags.engine, config: config.model, zLoss: training.zLoss });

async function gradientOf(rows: readonly PlannedRow[]): Promise<Float32Array[]> {
  const batch = createBatchArrays(rows.length, featureLengths.inputs, featureLengths.targets);
  for (const [row, planned] of rows.entries()) await fillRow(batch, row, planned, prepared, seed);
  const gradients: Float32Array[] = [];
  await engine.step(batch, (parameter, values) => (gradients[parameter] = values.slice()));
  return gradients;
}

const last = await readCheckpoint(join(folder, 'float32', 'checkpoints', `step-${flags.steps}`));
const states = [
  ['initial', initialiseParameters(engine.parameters, seed)],
  [`after ${flags.steps} steps`, await last.loadParameters(engine.parameters)],
] as const;
console.log('| parameters | lanes | sum | L2 | L2, worst parameter | largest |');
console.log('| --- | --- | --- | --- | --- | --- |');
for (const [name, parameters] of states) {
  await engine.load(parameters, 'zero');
  for (const numLanes of flags.lanes.split(',').map(Number)) {
    const planner = new Planner(planConfigOf(config, prepared), prepared.tasks);
    const errors: SumError[][] = [];
    for (let batch = 0; batch < Number(flags.batches); batch++) {
      const gradients: Float32Array[][] = [];
      for (let lane = 0; lane < numLanes; lane++)
        gradients.push(await gradientOf(planner.nextRows(training.rowsPerStep / numLanes)));
      errors.push(measure(gradients));
    }
    for (const [kind, sum] of SUMS.entries()) {
      const of = (field: keyof SumError): string => median(errors.map((error) => error[kind]![field])).toExponential(2);
      console.log(`| ${name} | ${numLanes} | ${sum} | ${of('l2')} | ${of('worstL2')} | ${of('largest')} |`);
    }
  }
}
await engine.dispose();
prepared.close();
rmSync(folder, { recursive: true });
