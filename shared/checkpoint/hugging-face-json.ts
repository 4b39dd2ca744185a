/**
 * The text of the JSON files that Transformers reads. Transformers 5 refuses an int for a float field (`initializer_factor: 1`), and
 * JavaScript writes 1.0 as `1`: this file writes such fields with a point.
 */

/** Fields of T5Config that are floats. */
const FLOAT_FIELDS = ['classifier_dropout', 'dropout_rate', 'initializer_factor', 'layer_norm_epsilon'] as const;

const INTEGRAL_FLOAT = new RegExp(`^( *"(?:${FLOAT_FIELDS.join('|')})": -?\\d+)(?=,?$)`, 'gm');

/** `config.json` as every version of Transformers accepts it. */
export function encodeHuggingFaceJson(content: unknown): string {
  return `${JSON.stringify(content, null, 2).replace(INTEGRAL_FLOAT, '$1.0')}\n`;
}
