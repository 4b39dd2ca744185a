/**
 * Checks that a folder of `exmix checkpoint export` is the same model in Transformers and in exmix: loss on a fixed, made-up batch, in exmix
 * from the rounded weights, and by bench/peers/check_transformers.py, which loads the folder by from_pretrained.
 *
 *   node --import tsx bench/export-loss.ts --model DIR --python PYTHON [--engine wasm] [--rows 8]
 *
 * Exit status 1 if the losses differ by more than 1e-4 nats.
 */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createBatchArrays, placeExamples, type BatchArrays } from '../mixture/feed/batch.ts';
import { RandomStream } from '../shared/random.ts';
import { createEngine } from '../worker/engine-choice/create-engine.ts';
import { readModel } from '../worker/model/read-model.ts';

const TOLERANCE = 1e-4;
const [INPUTS_LENGTH, TARGETS_LENGTH] = [48, 24];
const EOS_ID = 1;
const PEER = fileURLToPath(new URL('./peers/check_transformers.py', import.meta.url));

const { values } = parseArgs({
  options: {
    model: { type: 'string', default: '' },
    python: { type: 'string', default: 'python3' },
    engine: { type: 'string', default: 'wasm' },
    rows: { type: 'string', default: '8' },
  },
});
const { config, parameters } = await readModel(values.model);
const batch = makeBatch(Number(values.rows), config.vocabSize);
const { engine } = await createEngine({ name: values.engine, config, zLoss: 0 });
await engine.load(parameters, 'zero');
const { crossEntropy } = await engine.step(batch, () => undefined);
await engine.dispose();
const numTargets = batch.labels.filter((label) => label >= 0).length;
const exmixLoss = crossEntropy.reduce((sum, loss) => sum + loss, 0) / numTargets;

const folder = await mkdtemp(join(tmpdir(), 'exmix-batch-'));
const file = join(folder, 'batch.json');
await writeFile(
  file,
  JSON.stringify({
    input_ids: toRows(batch.encoderInputIds, INPUTS_LENGTH),
    attention_mask: toRows(batch.encoderSegmentIds, INPUTS_LENGTH),
    labels: toRows(batch.labels, TARGETS_LENGTH),
  }),
);
const peer = JSON.parse(execFileSync(values.python, [PEER, values.model, file], { encoding: 'utf8' })) as {
  loss: number;
};
await rm(folder, { recursive: true });
const difference = Math.abs(peer.loss - exmixLoss);
console.log(JSON.stringify({ model: values.model, exmixLoss, numTargets, ...peer, difference, tolerance: TOLERANCE }));
if (!(difference <= TOLERANCE)) process.exitCode = 1;

/** One example a row, of random ids and lengths: Transformers does not support packed rows. */
function makeBatch(numRows: number, vocabSize: number): BatchArrays {
  const random = new RandomStream([1]);
  const idsOf = (longest: number): Int32Array => {
    const length = 2 + random.nextBelow(longest - 2);
    const ids = Int32Array.from({ length }, () => 3 + random.nextBelow(vocabSize - 3));
    ids[length - 1] = EOS_ID;
    return ids;
  };
  const arrays = createBatchArrays(numRows, INPUTS_LENGTH, TARGETS_LENGTH);
  for (let row = 0; row < numRows; row++)
    placeExamples(arrays, row, [{ task: 0, inputs: idsOf(INPUTS_LENGTH), targets: idsOf(TARGETS_LENGTH) }]);
  return arrays;
}

function toRows(ids: Int32Array, length: number): number[][] {
  return Array.from({ length: ids.length / length }, (_, row) => [...ids.subarray(row * length, (row + 1) * length)]);
}
