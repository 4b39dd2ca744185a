/**
 * Checks that a checkpoint is the same model in Transformers and in exmix. Computes the loss on rows of its training mixture with an engine,
 * and with bench/peers/check_transformers.py, which loads the same folder by from_pretrained.
 *
 *   node --import tsx bench/transformers-loss.ts --checkpoint DIR --prepared DIR [--python PYTHON] [--rows 16]
 *
 * Exit status 1 if the losses differ by more than 1e-4 nats. Without --python it prints exmix's loss and the file of the batch.
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createBatchArrays, placeExamples, type BatchArrays } from '../mixture/feed/batch.ts';
import { readPlannedExample } from '../mixture/feed/planned-examples.ts';
import { openPreparedMixture } from '../mixture/feed/prepared-mixture.ts';
import { readCheckpoint } from '../shared/checkpoint/read.ts';
import { checkConfig } from '../shared/config/load-config.ts';
import { createEngine } from '../worker/engine-choice/create-engine.ts';

const TOLERANCE = 1e-4;
const PEER = fileURLToPath(new URL('./peers/check_transformers.py', import.meta.url));

const { values } = parseArgs({
  options: {
    checkpoint: { type: 'string' },
    prepared: { type: 'string' },
    python: { type: 'string' },
    rows: { type: 'string', default: '16' },
  },
});
const { checkpoint: folder = '', prepared = '', python, rows } = values;
const checkpoint = await readCheckpoint(folder);
const config = checkConfig(checkpoint.run.config, `${folder}/run.json`);
const batch = await makeBatch(Number(rows));

const { engine } = await createEngine({ name: 'auto', config: config.model, zLoss: 0 });
await engine.load(await checkpoint.loadParameters(engine.parameters), 'zero');
const { crossEntropy } = await engine.step(batch, () => undefined);
const numTargets = batch.labels.filter((label) => label >= 0).length;
const exmixLoss = crossEntropy.reduce((sum, loss) => sum + loss, 0) / numTargets;
await engine.dispose();

const file = join(await mkdtemp(join(tmpdir(), 'exmix-batch-')), 'batch.json');
await writeFile(
  file,
  JSON.stringify({
    input_ids: toRows(batch.encoderInputIds, batch.inputsLength),
    attention_mask: toRows(batch.encoderSegmentIds, batch.inputsLength),
    labels: toRows(batch.labels, batch.targetsLength),
  }),
);
console.log(JSON.stringify({ checkpoint: folder, step: checkpoint.run.step, exmixLoss, numTargets, batch: file }));
if (python !== undefined) {
  const peer = JSON.parse(execFileSync(python, [PEER, folder, file], { encoding: 'utf8' })) as { loss: number };
  const difference = Math.abs(peer.loss - exmixLoss);
  console.log(JSON.stringify({ ...peer, difference, tolerance: TOLERANCE }));
  if (!(difference <= TOLERANCE)) process.exitCode = 1;
}

/** One example per row, cycling through the tasks: Transformers does not support packed rows. */
async function makeBatch(numRows: number): Promise<BatchArrays> {
  const mixture = await openPreparedMixture(prepared);
  const arrays = createBatchArrays(numRows, config.featureLengths.inputs, config.featureLengths.targets);
  for (let row = 0; row < numRows; row++) {
    const task = row % mixture.tasks.length;
    const index = row % mixture.tasks[task]!.numExamples;
    placeExamples(arrays, row, [await readPlannedExample(mixture, { task, index, epoch: 0 }, config.seed)]);
  }
  mixture.close();
  return arrays;
}

function toRows(values_: Int32Array, length: number): number[][] {
  return Array.from({ length: values_.length / length }, (_, row) => [
    ...values_.subarray(row * length, (row + 1) * length),
  ]);
}
