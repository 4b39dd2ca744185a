/** Folders with a tiny T5 for tests: as Transformers saves one, and as a checkpoint of exmix. Values are a function of the seed. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hashFile } from '../../shared/atomic-file.ts';
import { runRecord } from '../../shared/checkpoint/checkpoint.fixture.ts';
import { checkpointName, CONFIG_FILE, MANIFEST_FILE, optimizerFile, RUN_FILE } from '../../shared/checkpoint/layout.ts';
import { encodeManifest, type FileEntry } from '../../shared/checkpoint/manifest.ts';
import type { RunRecord } from '../../shared/checkpoint/run-record.ts';
import { modelConfigSchema, toHuggingFace, type ModelConfig } from '../../shared/model-config.ts';
import { RandomStream } from '../../shared/random.ts';
import { float32Tensor, writeSafetensors } from '../../shared/safetensors.ts';
import { initialiseParameters } from './initialise.ts';
import { optimizerSlots } from './optimizer-slots.ts';
import { numElements, parameterSpecs } from './parameters.ts';

/** Above the vocabulary of golden/sentencepiece. */
export const TINY_T5: ModelConfig = modelConfigSchema.parse({
  vocabSize: 4112,
  dModel: 8,
  dKv: 4,
  dFf: 12,
  numLayers: 1,
  numDecoderLayers: 1,
  numHeads: 2,
});

/** `config.json` and `model.safetensors` of Transformers. @returns the parameters */
export async function writeModelFolder(
  folder: string,
  seed: number,
  config: ModelConfig = TINY_T5,
): Promise<Map<string, Float32Array>> {
  const specs = parameterSpecs(config);
  const parameters = initialiseParameters(specs, seed);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, CONFIG_FILE), JSON.stringify(toHuggingFace(config)));
  const tensors = specs.map(({ name, shape }) => float32Tensor(name, shape, parameters.get(name)!));
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  return parameters;
}

/** A checkpoint `step-<n>` with optimizer slots. @param facts replace those in run.json @returns its path and its tensors */
export async function writeModelCheckpoint(
  checkpointsFolder: string,
  step: number,
  facts: Partial<RunRecord> = {},
): Promise<{
  readonly path: string;
  readonly parameters: ReadonlyMap<string, Float32Array>;
  readonly optimizer: ReadonlyMap<string, Float32Array>;
}> {
  const path = join(checkpointsFolder, checkpointName(step));
  const parameters = await writeModelFolder(path, step);
  const slots = optimizerSlots(parameterSpecs(TINY_T5), 'adafactor');
  const random = new RandomStream([step, 1]);
  const optimizer = new Map(
    slots.map(({ name, shape }) => [name, new Float32Array(numElements(shape)).map(() => random.nextNormal() ** 2)]),
  );
  const tensors = slots.map(({ name, shape }) => float32Tensor(name, shape, optimizer.get(name)!));
  await writeSafetensors(join(path, optimizerFile(0, 1)), tensors);
  await writeFile(join(path, RUN_FILE), JSON.stringify({ ...runRecord(step, parameters), ...facts }));
  const files: FileEntry[] = [];
  for (const file of [CONFIG_FILE, 'model.safetensors', optimizerFile(0, 1), RUN_FILE])
    files.push({ file, ...(await hashFile(join(path, file))) });
  await writeFile(join(path, MANIFEST_FILE), encodeManifest({ step, files }));
  return { path, parameters, optimizer };
}
