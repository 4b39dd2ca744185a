/**
 * Trains the demo's model by adamw-rms beside PyTorch: same start, batches and settings. Compares the loss of each step.
 *
 *   node --import tsx bench/adamw-losses.ts --prepared DIR --python PYTHON [--steps 50] [--rows 4] [--engine wasm]
 *
 * One example a row: Transformers does not support packed rows. Exit status 1 where a loss differs by more than 1e-4 relative.
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createBatchArrays, placeExamples } from '../mixture/feed/batch.ts';
import { readPlannedExample } from '../mixture/feed/planned-examples.ts';
import { openPreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { encodeHuggingFaceJson } from '../shared/checkpoint/hugging-face-json.ts';
import { loadConfig } from '../shared/config/load-config.ts';
import { learningRate, scheduleSchema } from '../shared/learning-rate.ts';
import { toHuggingFace } from '../shared/model-config.ts';
import { clipFactor, optimizerSchema } from '../shared/optimizer.ts';
import { createEngine } from '../worker/engine-choice/create-engine.ts';
import { initialiseParameters } from '../worker/model/initialise.ts';

const TOLERANCE = 1e-4;
const PEER = fileURLToPath(new URL('./peers/adamw_losses.py', import.meta.url));

const { values: flags } = parseArgs({
  options: {
    prepared: { type: 'string', default: '' },
    python: { type: 'string', default: 'python3' },
    steps: { type: 'string', default: '50' },
    rows: { type: 'string', default: '4' },
    engine: { type: 'string', default: 'wasm' },
  },
});
const [numSteps, numRows] = [Number(flags.steps), Number(flags.rows)];
const { model, featureLengths, seed } = await loadConfig(
  fileURLToPath(new URL('../deploy/presets/demo.yaml', import.meta.url)),
  [],
);
const optimizer = optimizerSchema.parse({ kind: 'adamw-rms', weightDecay: 0.01, maxGradNorm: 1 });
const schedule = scheduleSchema.parse({
  ...{ kind: 'cosine', warmupSteps: 10, warmupFrom: 0.5 },
  ...{ totalSteps: numSteps, peak: 2e-2, floor: 1e-5 },
});
const mixture = await openPreparedMixture(flags.prepared);
const { engine } = await createEngine({ name: flags.engine, config: model, zLoss: 0, optimizer });
const start = initialiseParameters(engine.parameters, seed);
await engine.load(start, 'zero');

const losses: number[] = [];
const batches: object[] = [];
for (let step = 0; step < numSteps; step++) {
  const batch = createBatchArrays(numRows, featureLengths.inputs, featureLengths.targets);
  for (let row = 0; row < numRows; row++) {
    const place = step * numRows + row;
    const task = place % mixture.tasks.length;
    const index = Math.floor(place / mixture.tasks.length) % mixture.tasks[task]!.numExamples;
    placeExamples(batch, row, [await readPlannedExample(mixture, { task, index, epoch: 0 }, seed)]);
  }
  const gradients: Float32Array[] = [];
  const { crossEntropy } = await engine.step(batch, (parameter, gradient) => {
    gradients[parameter] = gradient.slice();
  });
  const numTargets = batch.labels.filter((label) => label >= 0).length;
  losses.push(crossEntropy.reduce((sum, loss) => sum + loss, 0) / numTargets);
  const squares = gradients.reduce((sum, values) => sum + values.reduce((all, x) => all + x * x, 0), 0);
  const clip = clipFactor(optimizer, Math.sqrt(squares) / numTargets);
  const rate = learningRate(schedule, step);
  await engine.apply(gradients, { step, learningRate: rate, gradientScale: clip / numTargets });
  batches.push({
    learning_rate: rate,
    input_ids: toRows(batch.encoderInputIds, batch.inputsLength),
    attention_mask: toRows(batch.encoderSegmentIds, batch.inputsLength),
    labels: toRows(batch.labels, batch.targetsLength),
  });
}
mixture.close();

const folder = await mkdtemp(join(tmpdir(), 'exmix-adamw-'));
await writeFile(join(folder, 'config.json'), encodeHuggingFaceJson(toHuggingFace(model)));
const given = { optimizer, parameters: engine.parameters, batches };
await writeFile(join(folder, 'given.json'), JSON.stringify(given));
const bytes = engine.parameters.map(({ name }) => new Uint8Array(start.get(name)!.buffer));
await writeFile(join(folder, 'start.f32'), Buffer.concat(bytes));
await engine.dispose();

const peers = JSON.parse(execFileSync(flags.python, [PEER, folder], { encoding: 'utf8' })) as number[];
const differences = losses.map((loss, step) => Math.abs(loss - peers[step]!) / peers[step]!);
for (const [step, loss] of losses.entries())
  console.log(`${step + 1}\t${loss.toFixed(6)}\t${peers[step]!.toFixed(6)}\t${differences[step]!.toExponential(1)}`);
const worst = Math.max(...differences);
console.log(`largest relative difference ${worst.toExponential(1)}, tolerance ${TOLERANCE}`);
if (!(worst <= TOLERANCE)) process.exitCode = 1;

function toRows(values: Int32Array, length: number): number[][] {
  return Array.from({ length: values.length / length }, (_, row) => [
    ...values.subarray(row * length, (row + 1) * length),
  ]);
}
