/**
 * The text of the JSON files that Transformers reads. Transformers 5 refuses an int for a float field (`initializer_factor: 1`), and
 * JavaScript writes 1.0 as `1`: this file writes such fields with a point.
 */
import type { TensorSpec } from './shard-plan.ts';

/** Fields of T5Config that are floats. */
const FLOAT_FIELDS = ['classifier_dropout', 'dropout_rate', 'initializer_factor', 'layer_norm_epsilon'] as const;

const INTEGRAL_FLOAT = new RegExp(`^( *"(?:${FLOAT_FIELDS.join('|')})": -?\\d+)(?=,?$)`, 'gm');

/** `config.json` as every version of Transformers accepts it. */
export function encodeHuggingFaceJson(content: unknown): string {
  return `${JSON.stringify(content, null, 2).replace(INTEGRAL_FLOAT, '$1.0')}\n`;
}

/** The part of the model's configuration that `generate` reads: the content of `generation_config.json`. */
export function generationConfigOf(hfConfig: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const names = ['decoder_start_token_id', 'eos_token_id', 'pad_token_id'];
  return Object.fromEntries(names.flatMap((name) => (name in hfConfig ? [[name, hfConfig[name]]] : [])));
}

/** Parameter → file: the content of `model.safetensors.index.json`. @param totalBytes of the tensors of all shards */
export function modelIndexOf(
  shards: readonly { readonly file: string; readonly tensors: readonly TensorSpec[] }[],
  totalBytes: number,
): Record<string, unknown> {
  const entries = shards.flatMap(({ file, tensors }) => tensors.map(({ name }) => [name, file] as const));
  return { metadata: { total_size: totalBytes }, weight_map: Object.fromEntries(entries) };
}
