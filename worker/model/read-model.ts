/**
 * Any T5 in: a folder of Hugging Face Transformers as people have them, to a model's config and its parameters in float32.
 *
 * Reads one safetensors file or an index of several, in float32, bfloat16 or float16 (widened exactly), T5 v1.0 and v1.1, the config.json of any
 * version of Transformers. Aliases of a tied model and the superfluous cross-attention bias of old files are left out. Weights in pickle files
 * are refused: reading one runs code. Transformers fills missing parameters with random numbers; here they are refused.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CONFIG_FILE, MODEL_INDEX_FILE } from '../../shared/checkpoint/layout.ts';
import { TrainerError } from '../../shared/errors.ts';
import { listNames } from '../../shared/list-names.ts';
import { fromHuggingFace, type ModelConfig } from '../../shared/model-config.ts';
import { asFloat32, readSafetensors, type SafeTensor, type TensorFacts } from '../../shared/safetensors.ts';
import { readSmallFile } from '../../shared/small-file.ts';
import { parameterSpecs, type ParameterSpec } from './parameters.ts';

export interface ReadModel {
  readonly config: ModelConfig;
  /** By the names of parameterSpecs. */
  readonly parameters: ReadonlyMap<string, Float32Array>;
}

const WEIGHTS_FILE = 'model.safetensors';
const PICKLE_FILES = /^(?:pytorch_model.*\.bin|.*\.(?:pt|pth|ckpt|msgpack|h5))$/u;

/** Names under which older files have the embedding table. */
const TABLE_NAMES = ['shared.weight', 'encoder.embed_tokens.weight', 'decoder.embed_tokens.weight'];
/** Present in files of old versions, used by no model. */
const SUPERFLUOUS = ['decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight'];

/**
 * @throws TrainerError PATH_UNUSABLE for a missing file; CONFIG_INVALID for a config of another model; CHECKPOINT_MISMATCH for parameters that are
 *   missing, unknown, of another shape or type, or not finite; SAFETENSORS_INVALID
 */
export async function readModel(folder: string): Promise<ReadModel> {
  const files = await listModelFolder(folder);
  const tensors = await readTensors(folder, files);
  const description = await readJson(join(folder, CONFIG_FILE));
  const config = fromHuggingFace(description, tensors.has('lm_head.weight'));
  return { config, parameters: selectParameters(folder, config, tensors) };
}

/** A model without its values. */
export interface ModelOutline {
  readonly config: ModelConfig;
  /** As the headers of the files state them, in no order. */
  readonly tensors: readonly TensorFacts[];
}

/** Config and tensors of a folder by headers only: reads no values and checks none. @throws as readModel, for config and files */
export async function outlineModel(folder: string): Promise<ModelOutline> {
  const files = await listModelFolder(folder);
  const tensors: TensorFacts[] = [];
  const note = (facts: TensorFacts): boolean => {
    tensors.push(facts);
    return false;
  };
  if (files.includes(WEIGHTS_FILE)) await readSafetensors(join(folder, WEIGHTS_FILE), note);
  else for (const { file } of await readIndex(folder, files)) await readSafetensors(join(folder, file), note);
  const description = await readJson(join(folder, CONFIG_FILE));
  const config = fromHuggingFace(
    description,
    tensors.some(({ name }) => name === 'lm_head.weight'),
  );
  return { config, tensors };
}

/** @throws PATH_UNUSABLE for a folder that cannot be read or has no config */
async function listModelFolder(folder: string): Promise<string[]> {
  const files = await listFolder(folder);
  if (files.includes(CONFIG_FILE)) return files;
  throw new TrainerError(
    'PATH_UNUSABLE',
    `expected ${CONFIG_FILE} in ${folder}, which tells the shape of the model; found ${listNames(files)}`,
  );
}

async function listFolder(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (cause) {
    throw new TrainerError('PATH_UNUSABLE', `cannot read the folder ${folder} of a model: ${String(cause)}`, { cause });
  }
}

async function readJson(path: string): Promise<unknown> {
  const bytes = await readSmallFile(path);
  try {
    return JSON.parse(bytes.toString('utf8')) as unknown;
  } catch (cause) {
    throw new TrainerError('CONFIG_INVALID', `${path} is no JSON: ${String(cause)}`, { cause });
  }
}

async function readTensors(folder: string, files: readonly string[]): Promise<Map<string, SafeTensor>> {
  if (files.includes(WEIGHTS_FILE)) return (await readSafetensors(join(folder, WEIGHTS_FILE))).tensors;
  const tensors = new Map<string, SafeTensor>();
  for (const { file, names } of await readIndex(folder, files)) {
    const { tensors: found } = await readSafetensors(join(folder, file));
    for (const name of names) {
      const tensor = found.get(name);
      if (tensor === undefined)
        throw mismatch(folder, [`${name}: ${MODEL_INDEX_FILE} says that ${file} has it, but it does not`]);
      tensors.set(name, tensor);
    }
  }
  return tensors;
}

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/** The files of the index, and the names of the tensors that it places in each. @throws PATH_UNUSABLE, CONFIG_INVALID */
async function readIndex(folder: string, files: readonly string[]): Promise<{ file: string; names: string[] }[]> {
  if (!files.includes(MODEL_INDEX_FILE)) throw withoutWeights(folder, files);
  const path = join(folder, MODEL_INDEX_FILE);
  const index = indexSchema.safeParse(await readJson(path));
  if (!index.success)
    throw new TrainerError('CONFIG_INVALID', `${path}: expected weight_map, names of tensors to files`);
  const places = Object.entries(index.data.weight_map);
  const shards = [...new Set(places.map(([, file]) => file))].sort();
  // A name with a slash is in no listing: an index cannot name a file outside of its folder.
  const missing = shards.filter((file) => !files.includes(file));
  if (missing.length > 0) {
    throw new TrainerError(
      'PATH_UNUSABLE',
      `${path} names ${listNames(missing)}, which ${folder} does not have; copy the missing files`,
    );
  }
  return shards.map((file) => ({
    file,
    names: places.flatMap(([name, place]) => (place === file ? [name] : [])),
  }));
}

function withoutWeights(folder: string, files: readonly string[]): TrainerError {
  const pickles = files.filter((name) => PICKLE_FILES.test(name));
  return new TrainerError(
    'PATH_UNUSABLE',
    `expected ${WEIGHTS_FILE} or ${MODEL_INDEX_FILE} in ${folder}, found ${listNames(pickles.length > 0 ? pickles : files)}; ` +
      (pickles.length > 0
        ? 'exmix does not read these formats, and a pickle runs code when it is read: save the model with safe_serialization=True'
        : 'the folder has no weights'),
  );
}

/** The tensors of the model's parameters, each checked. */
function selectParameters(
  folder: string,
  config: ModelConfig,
  tensors: ReadonlyMap<string, SafeTensor>,
): Map<string, Float32Array> {
  const specs = parameterSpecs(config);
  const parameters = new Map<string, Float32Array>();
  const problems: string[] = [];
  for (const spec of specs) {
    const tensor = spec.name === 'shared.weight' ? findTable(tensors, problems) : tensors.get(spec.name);
    const problem =
      tensor === undefined ? `${spec.name}: expected ${describe(spec.shape)}, found nothing` : problemOf(tensor, spec);
    if (problem !== undefined) problems.push(problem);
    else parameters.set(spec.name, asFloat32(tensor!));
  }
  const known = new Set([...specs.map(({ name }) => name), ...TABLE_NAMES, ...SUPERFLUOUS, 'lm_head.weight']);
  const unknown = [...tensors.keys()].filter((name) => !known.has(name));
  if (unknown.length > 0)
    problems.push(`the model has no ${listNames(unknown)}: the config is of another model, or this is no T5`);
  for (const [name, values] of parameters) {
    const at = values.findIndex((value) => !Number.isFinite(value));
    if (at !== -1)
      problems.push(`${name}: value ${at} is ${values[at]!}; the file is damaged or its training diverged`);
  }
  if (problems.length > 0) throw mismatch(folder, problems);
  return parameters;
}

/** The embedding table under any of its names; all that are there must be equal. */
function findTable(tensors: ReadonlyMap<string, SafeTensor>, problems: string[]): SafeTensor | undefined {
  const found = TABLE_NAMES.flatMap((name) => tensors.get(name) ?? []);
  const [first, ...others] = found;
  const other = others.find(({ data }) => first !== undefined && Buffer.compare(data, first.data) !== 0);
  if (other !== undefined) problems.push(`${other.name} differs from ${first!.name}: a T5 has one embedding table`);
  return first;
}

function problemOf(tensor: SafeTensor, spec: ParameterSpec): string | undefined {
  if (!['F32', 'BF16', 'F16'].includes(tensor.dtype)) {
    return `${tensor.name}: expected F32, BF16 or F16, found ${tensor.dtype}; quantized weights cannot be read`;
  }
  const isEqual =
    tensor.shape.length === spec.shape.length && tensor.shape.every((size, at) => size === spec.shape[at]);
  return isEqual ? undefined : `${tensor.name}: expected ${describe(spec.shape)}, found ${describe(tensor.shape)}`;
}

function describe(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`;
}

function mismatch(folder: string, problems: readonly string[]): TrainerError {
  const shown = problems.slice(0, 10);
  const rest = problems.length > shown.length ? `; ${problems.length - shown.length} more` : '';
  return new TrainerError(
    'CHECKPOINT_MISMATCH',
    `the weights of ${folder} do not fit its ${CONFIG_FILE}: ${shown.join('; ')}${rest}`,
  );
}
