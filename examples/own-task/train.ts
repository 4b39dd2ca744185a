/** Trains a small model on the task of this folder with two workers, then reads the checkpoint. */
import { fileURLToPath } from 'node:url';
import { loadMixture, loadTokenizer, readCheckpoint, train, type RunSettings } from 'exmix';

const MIXTURE = fileURLToPath(new URL('mixture.yaml', import.meta.url));

export const SETTINGS: RunSettings = {
  name: 'own-task',
  seed: 7,
  model: { vocabSize: 8064, dModel: 32, dKv: 16, dFf: 64, numLayers: 1, numDecoderLayers: 1, numHeads: 2 },
  featureLengths: { inputs: 64, targets: 32 },
  mixture: { path: MIXTURE, denoisingRatio: 0 },
  training: { steps: 6, rowsPerStep: 8, numLanes: 4, microbatchRows: 2 },
  schedule: { kind: 'constant', value: 0.01 },
  compute: { engine: 'wasm' },
};

/** @returns lines about the trained model */
export async function trainOwnTask(runDir: string): Promise<string[]> {
  const losses: string[] = [];
  const summary = await train({
    settings: SETTINGS,
    workers: 2,
    runDir,
    onRecord: (record) => {
      if (record.msg === 'step committed') losses.push(Number(record['loss']).toFixed(3));
    },
  });
  const checkpoint = await readCheckpoint(summary.checkpoint!);
  const parameters = await checkpoint.loadParameters();
  const embedding = parameters.get('shared.weight');
  const tokenizer = await loadTokenizer(loadMixture(MIXTURE).tokenizerPath);
  return [
    `losses ${losses.join(' ')}`,
    `step ${checkpoint.step}, parameters ${checkpoint.paramDigest}`,
    `embedding [${embedding?.shape.join(', ') ?? ''}], "upper: stone" is ids ${tokenizer.encode('upper: stone').join(' ')}`,
  ];
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  process.stdout.write(`${(await trainOwnTask('runs/own-task')).join('\n')}\n`);
