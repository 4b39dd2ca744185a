/**
 * Writes a model as a folder that Transformers loads, without what only training needs: weights in the wanted precision, config, tokenizer,
 * generation_config. Values are rounded to the nearest, ties to even. The folder appears whole, by one rename.
 */
import { mkdir, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { copyDurably, syncFolder, systemCode, toStorageError, writeNewFile } from '../../shared/atomic-file.ts';
import { throwIfAborted } from '../../shared/abort.ts';
import type { ExtraFile } from '../../shared/checkpoint/extra-file.ts';
import { encodeHuggingFaceJson, generationConfigOf, modelIndexOf } from '../../shared/checkpoint/hugging-face-json.ts';
import { CONFIG_FILE, GENERATION_CONFIG_FILE, MODEL_INDEX_FILE, modelFile } from '../../shared/checkpoint/layout.ts';
import { parameterDigest } from '../../shared/checkpoint/parameter-digest.ts';
import { planShards } from '../../shared/checkpoint/shard-plan.ts';
import { TrainerError } from '../../shared/errors.ts';
import { toHuggingFace } from '../../shared/model-config.ts';
import { asFloat32, narrowedTensor, writeSafetensors, type FloatDtype } from '../../shared/safetensors.ts';
import { readIfThere } from '../../shared/small-file.ts';
import { checkpointTokenizer } from '../../mixture/tokenizer/checkpoint-tokenizer.ts';
import { findTokenizer } from '../../mixture/tokenizer/find-tokenizer.ts';
import { readInitialState } from '../../worker/compute/initial-state.ts';
import { parameterSpecs } from '../../worker/model/parameters.ts';

/** By the names that Transformers has for them. */
export const EXPORT_DTYPES = { float32: 'F32', bfloat16: 'BF16', float16: 'F16' } as const satisfies Record<
  string,
  FloatDtype
>;
export type ExportDtype = keyof typeof EXPORT_DTYPES;

export interface ExportInit {
  /** A checkpoint, or a T5 of Hugging Face. */
  readonly folder: string;
  /** A new or empty folder. */
  readonly out: string;
  readonly dtype: ExportDtype;
  /** Most bytes of a file with weights, unless a single tensor is larger. */
  readonly maxShardBytes: number;
  readonly signal: AbortSignal;
}

export interface ExportedModel {
  readonly out: string;
  /** In the order of their writing. */
  readonly files: readonly string[];
  /** Of the weights. */
  readonly bytes: number;
  /** Digest of the parameters as they were, and as the folder has them. */
  readonly paramDigest: string;
  readonly exportedDigest: string;
  readonly hasTokenizer: boolean;
}

/**
 * @throws PATH_UNUSABLE where `out` is not new or empty; CONFIG_INVALID for a value beyond the precision; DISK_FULL, ABORTED; the errors of
 *   readInitialState and checkpointTokenizer
 */
export async function exportModel({ folder, out, dtype, maxShardBytes, signal }: ExportInit): Promise<ExportedModel> {
  const target = resolve(out);
  await expectNewFolder(target);
  const { config, parameters, digests } = await readInitialState(folder, 'fresh', signal);
  const tokenizer = await findTokenizer(folder);
  const extra = tokenizer === undefined ? [] : await checkpointTokenizer(tokenizer);
  const safeDtype = EXPORT_DTYPES[dtype];
  // The plan counts float32.
  const shards = planShards(parameterSpecs(config), dtype === 'float32' ? maxShardBytes : 2 * maxShardBytes);
  const writing = join(dirname(target), `.writing-${basename(target)}-${process.pid}`);
  const files: string[] = [];
  const exported = new Map<string, Float32Array>();
  let bytes = 0;
  try {
    await mkdir(dirname(target), { recursive: true });
    await rm(writing, { recursive: true, force: true });
    await mkdir(writing);
    for (const [index, specs] of shards.entries()) {
      throwIfAborted(signal, `writing ${out}`);
      const tensors = specs.map(({ name, shape }) => narrowedTensor(name, shape, parameters.get(name)!, safeDtype));
      const file = modelFile(index, shards.length);
      await writeSafetensors(join(writing, file), tensors);
      files.push(file);
      for (const tensor of tensors) {
        bytes += tensor.data.byteLength;
        exported.set(tensor.name, asFloat32(tensor));
      }
    }
    const hfConfig = { ...toHuggingFace(config), torch_dtype: dtype };
    const generation = (await readIfThere(join(folder, GENERATION_CONFIG_FILE))) ?? generationText(hfConfig);
    const texts: ExtraFile[] = [
      { name: CONFIG_FILE, text: encodeHuggingFaceJson(hfConfig) },
      { name: GENERATION_CONFIG_FILE, text: generation },
    ];
    if (shards.length > 1) {
      const placed = shards.map((tensors, index) => ({ file: modelFile(index, shards.length), tensors }));
      texts.push({ name: MODEL_INDEX_FILE, text: encodeHuggingFaceJson(modelIndexOf(placed, bytes)) });
    }
    for (const file of [...texts, ...extra]) {
      if ('source' in file) await copyDurably(file.source, join(writing, file.name));
      else await writeNewFile(join(writing, file.name), file.text);
      files.push(file.name);
    }
    await syncFolder(writing);
    throwIfAborted(signal, `writing ${out}`);
    await rename(writing, target); // also over an empty folder
    await syncFolder(dirname(target));
  } catch (error) {
    await rm(writing, { recursive: true, force: true }).catch(() => undefined); // the failure that is reported is another one
    throw toStorageError(error, 'write', target);
  }
  const exportedDigest = parameterDigest(exported);
  const hasTokenizer = tokenizer !== undefined;
  return { out: target, files, bytes, paramDigest: digests.paramDigest!, exportedDigest, hasTokenizer };
}

function generationText(hfConfig: Readonly<Record<string, unknown>>): string {
  return encodeHuggingFaceJson(generationConfigOf(hfConfig));
}

/** @throws PATH_UNUSABLE */
async function expectNewFolder(folder: string): Promise<void> {
  try {
    const [found] = await readdir(folder);
    if (found === undefined) return;
    throw new TrainerError('PATH_UNUSABLE', `--out ${folder}: expected a new or empty folder, found ${found} in it`);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw toStorageError(error, 'read', folder);
  }
}

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
};

/** `5GB`, `200MiB`, `1000000` → bytes. Pure. @throws CONFIG_INVALID */
export function parseByteSize(flag: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([KMG]?I?B?)$/iu.exec(text.trim());
  const unit = match === null ? undefined : UNITS[match[2]!.toUpperCase()];
  const bytes = unit === undefined ? NaN : Math.floor(Number(match![1]) * unit);
  if (Number.isSafeInteger(bytes) && bytes >= 1) return bytes;
  throw new TrainerError(
    'CONFIG_INVALID',
    `${flag}: expected a size such as 5GB or 200MiB, got ${JSON.stringify(text)}`,
  );
}
