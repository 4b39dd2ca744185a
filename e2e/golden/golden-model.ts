/** The model that a reference file of decoding names, on an engine. */
import { readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { TrainerError } from '../../shared/errors.ts';
import { fromHuggingFace } from '../../shared/model-config.ts';
import { asFloat32, readSafetensors } from '../../shared/safetensors.ts';
import { createEngine } from '../../worker/engine-choice/create-engine.ts';
import type { Engine } from '../../worker/engine/engine.ts';

/** The named folder: as it is, or of that name beside the folder of the file. @throws PATH_UNUSABLE */
export async function findModel(file: string, model: string): Promise<string> {
  const places = [join(dirname(file), '..', basename(model)), model];
  for (const place of places) if ((await stat(place).catch(() => undefined))?.isDirectory() === true) return place;
  throw new TrainerError('PATH_UNUSABLE', `${file} needs the model ${model}; looked for ${places.join(' and ')}`);
}

/** @param engineName native, wasm or cpu. The caller disposes the engine. */
export async function openModel(file: string, model: string, engineName: string): Promise<Engine> {
  const folder = await findModel(file, model);
  const { tensors } = await readSafetensors(join(folder, 'model.safetensors'));
  const description: unknown = JSON.parse(await readFile(join(folder, 'config.json'), 'utf8'));
  const config = fromHuggingFace(description, tensors.has('lm_head.weight'));
  const { engine } = await createEngine({ name: engineName, config, zLoss: 0 });
  await engine.load(new Map([...tensors].map(([name, tensor]) => [name, asFloat32(tensor)])), 'zero');
  return engine;
}
