/**
 * Names in a checkpoint folder, for writers and readers.
 *
 * | file                                                             | what                                             |
 * |------------------------------------------------------------------|--------------------------------------------------|
 * | `config.json`, `generation_config.json`                          | the model, for Transformers                      |
 * | `model.safetensors`, or `model-0000i-of-0000n.safetensors` and `model.safetensors.index.json` | parameters, float32 |
 * | `spiece.model` unless the run has a `tokenizer.json`             | the tokenizer, with its bytes                    |
 * | `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` | the same for Transformers                    |
 * | `optimizer-0000i-of-0000m.safetensors`                           | optimizer slots, float32                         |
 * | `run.json`                                                       | step, cursor, configuration (run-record.ts)      |
 * | `manifest.json`                                                  | size and SHA-256 of every other file (manifest.ts) |
 */
import { basename } from 'node:path';

export const MANIFEST_FILE = 'manifest.json';
export const RUN_FILE = 'run.json';
/** The model, for Transformers. */
export const CONFIG_FILE = 'config.json';
/** How `generate` of Transformers decodes. */
export const GENERATION_CONFIG_FILE = 'generation_config.json';
export const MODEL_INDEX_FILE = 'model.safetensors.index.json';

const WRITING_PREFIX = '.writing-';
const REMOVING_PREFIX = '.removing-';
/** Prefixes of half written or half deleted entries of a `checkpoints` folder; readers ignore them. */
export const UNFINISHED_PREFIXES = [WRITING_PREFIX, REMOVING_PREFIX] as const;

/** `step-12`: parameters after 12 optimizer updates. */
export function checkpointName(step: number): string {
  return `step-${step}`;
}

/**
 * The folder in which the checkpoint of a step is written before it is published. Epoch and generation are in the name: a worker of an
 * earlier generation cannot write into the folder of a later one.
 */
export function writingName(step: number, epoch: number, generation: number): string {
  return `${WRITING_PREFIX}step-${String(step).padStart(6, '0')}-e${epoch}-g${generation}`;
}

/** The name of a checkpoint while it is deleted. */
export function removingName(step: number): string {
  return `${REMOVING_PREFIX}step-${step}`;
}

/** The step in the name of a checkpoint folder; undefined for another name. */
export function stepOfFolder(path: string): number | undefined {
  const digits = /^step-(0|[1-9][0-9]*)$/.exec(basename(path))?.[1];
  const step = Number(digits);
  return digits === undefined || !Number.isSafeInteger(step) ? undefined : step;
}

/** Model shard `index` (0-based) of `count`, as Transformers names it. */
export function modelFile(index: number, count: number): string {
  return count === 1 ? 'model.safetensors' : `model-${fiveDigits(index + 1)}-of-${fiveDigits(count)}.safetensors`;
}

/** Optimizer shard `index` (0-based) of `count`. */
export function optimizerFile(index: number, count: number): string {
  return `optimizer-${fiveDigits(index + 1)}-of-${fiveDigits(count)}.safetensors`;
}

function fiveDigits(value: number): string {
  return String(value).padStart(5, '0');
}
