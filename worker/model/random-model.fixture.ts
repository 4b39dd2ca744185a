/** Writes a small T5 with random weights and the golden tokenizer, as a folder of Transformers. */
import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { GOLDEN_MODEL_PATH } from '../../mixture/tokenizer/golden-lines.fixture.ts';
import { modelConfigSchema, toHuggingFace } from '../../shared/model-config.ts';
import { RandomStream } from '../../shared/random.ts';
import { float32Tensor, writeSafetensors } from '../../shared/safetensors.ts';
import { numElements, parameterSpecs } from './parameters.ts';

export async function writeRandomModel(folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const config = modelConfigSchema.parse({
    ...{ vocabSize: 4_100, dModel: 16, dKv: 8, dFf: 24, numHeads: 2, numLayers: 2, numDecoderLayers: 2 },
  });
  const random = new RandomStream([11]);
  const tensors = parameterSpecs(config).map(({ name, shape, initializer }) => {
    const scale = initializer.kind === 'normal' ? 2 * initializer.standardDeviation : 0;
    const value = (): number => (initializer.kind === 'ones' ? 1 : scale * random.nextNormal());
    return float32Tensor(name, shape, Float32Array.from({ length: numElements(shape) }, value));
  });
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
  writeFileSync(join(folder, 'config.json'), JSON.stringify(toHuggingFace(config)));
  cpSync(GOLDEN_MODEL_PATH, join(folder, 'spiece.model'));
}
