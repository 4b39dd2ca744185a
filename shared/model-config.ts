/**
 * The shape of a T5 model: our explicit form, and its two-way translation to the config.json of Hugging Face Transformers.
 * T5 v1.1 (ExT5's) is gated-gelu with an output layer of its own; T5 v1.0 is relu with the embedding table tied to it.
 * Source: T5Config of transformers 4 and 5, which write the tie flags differently (below).
 */
import { z } from 'zod';
import { DECIDES_BITS } from './config/bits.ts';
import { TrainerError } from './errors.ts';

const size = z.int().positive();

export const modelConfigSchema = z
  .strictObject({
    vocabSize: size
      .default(32128)
      .describe('Rows of the embedding table: token ids are below this.')
      .meta(DECIDES_BITS),
    dModel: size.default(512).describe('Width of the hidden states (d_model).').meta(DECIDES_BITS),
    dKv: size.default(64).describe('Width of one attention head (d_kv).').meta(DECIDES_BITS),
    dFf: size.default(1024).describe('Width of the feed-forward layer (d_ff).').meta(DECIDES_BITS),
    numLayers: size.default(8).describe('Encoder blocks.').meta(DECIDES_BITS),
    numDecoderLayers: size.default(8).describe('Decoder blocks.').meta(DECIDES_BITS),
    numHeads: size.default(6).describe('Attention heads; numHeads × dKv need not be dModel.').meta(DECIDES_BITS),
    feedForward: z
      .enum(['gated-gelu', 'relu'])
      .default('gated-gelu')
      .describe('gated-gelu: T5 v1.1 and ExT5. relu: T5 v1.0.')
      .meta(DECIDES_BITS),
    tieEmbeddings: z
      .boolean()
      .default(false)
      .describe('true (T5 v1.0): the output layer is the embedding table and its input is scaled by dModel^-0.5.')
      .meta(DECIDES_BITS),
    relativeAttentionNumBuckets: z
      .int()
      .min(4)
      .multipleOf(2)
      .default(32)
      .describe('Buckets of relative distance in self-attention.')
      .meta(DECIDES_BITS),
    relativeAttentionMaxDistance: size
      .default(128)
      .describe('Distances from here on share the last bucket, in tokens.')
      .meta(DECIDES_BITS),
    layerNormEpsilon: z
      .number()
      .positive()
      .default(1e-6)
      .describe('Added to the mean square in RMSNorm.')
      .meta(DECIDES_BITS),
  })
  .refine((config) => config.relativeAttentionMaxDistance > config.relativeAttentionNumBuckets / 2, {
    error: 'relativeAttentionMaxDistance must be above half of relativeAttentionNumBuckets',
    path: ['relativeAttentionMaxDistance'],
  })
  .describe('The shape of a T5 model; the defaults are T5 v1.1 small.');

export type ModelConfig = z.output<typeof modelConfigSchema>;

/** The keys of a Transformers T5 config.json that define the model; other keys are ignored. Defaults are those of T5Config. */
const huggingFaceSchema = z.looseObject({
  model_type: z.literal('t5').default('t5'),
  vocab_size: size,
  d_model: size,
  d_kv: size,
  d_ff: size,
  num_layers: size,
  num_decoder_layers: size.nullish(),
  num_heads: size,
  feed_forward_proj: z.string().optional(),
  is_gated_act: z.boolean().optional(),
  dense_act_fn: z.string().optional(),
  tie_word_embeddings: z.boolean().default(true),
  scale_decoder_outputs: z.boolean().optional(),
  relative_attention_num_buckets: size.default(32),
  relative_attention_max_distance: size.default(128),
  layer_norm_epsilon: z.number().default(1e-6),
});

/**
 * Reads a config.json of any version of Transformers. 5.x writes `tie_word_embeddings: true` for every T5, also v1.1; its key
 * `scale_decoder_outputs` distinguishes them. Older files do not have this key, and their tie flag is right.
 * @param configJson the parsed file
 * @param hasLmHead whether the weights contain `lm_head.weight`; in a tied model that is an alias, which is ignored
 * @throws CONFIG_INVALID with all problems
 */
export function fromHuggingFace(configJson: unknown, hasLmHead: boolean): ModelConfig {
  const parsed = huggingFaceSchema.safeParse(configJson);
  if (!parsed.success) throw invalid('config.json is not that of a T5 model', parsed.error);
  const hf = parsed.data;
  const scaled = hf.scale_decoder_outputs ?? hf.tie_word_embeddings;
  if (!scaled && !hasLmHead)
    throw new TrainerError(
      'CONFIG_INVALID',
      'config.json describes an output layer of its own (T5 v1.1), but the weights have no lm_head.weight; ' +
        'one of the two files is of another model, or the weights are incomplete',
    );
  const config = modelConfigSchema.safeParse({
    vocabSize: hf.vocab_size,
    dModel: hf.d_model,
    dKv: hf.d_kv,
    dFf: hf.d_ff,
    numLayers: hf.num_layers,
    numDecoderLayers: hf.num_decoder_layers ?? hf.num_layers,
    numHeads: hf.num_heads,
    feedForward: feedForwardOf(hf),
    tieEmbeddings: scaled,
    relativeAttentionNumBuckets: hf.relative_attention_num_buckets,
    relativeAttentionMaxDistance: hf.relative_attention_max_distance,
    layerNormEpsilon: hf.layer_norm_epsilon,
  });
  if (!config.success) throw invalid('config.json describes a model exmix cannot build', config.error);
  return config.data;
}

/** Activations of a gated layer that are the tanh form of GELU. Transformers computes `gated-gelu` with `gelu_new`, and has since its first T5 v1.1. */
const GELU_NAMES = ['gelu', 'gelu_new', 'gelu_pytorch_tanh'];

/**
 * `feed_forward_proj` is `relu`, `gated-gelu` and so on; files of the first versions lack it and are relu. `is_gated_act` and `dense_act_fn`
 * repeat it in newer files.
 */
function feedForwardOf(hf: z.output<typeof huggingFaceSchema>): ModelConfig['feedForward'] {
  const stated = hf.feed_forward_proj ?? `${hf.is_gated_act === true ? 'gated-' : ''}${hf.dense_act_fn ?? 'relu'}`;
  const isGated = stated.startsWith('gated-');
  const activation = isGated ? stated.slice('gated-'.length) : stated;
  if (!isGated && activation === 'relu') return 'relu';
  if (isGated && GELU_NAMES.includes(activation)) return 'gated-gelu';
  throw new TrainerError(
    'CONFIG_INVALID',
    `config.json: feed_forward_proj is "${stated}"; expected "relu" (T5 v1.0) or "gated-gelu" (T5 v1.1, flan)`,
  );
}

/** The config.json of a T5ForConditionalGeneration; both tie flags are written, so every Transformers reads the same model. */
export function toHuggingFace(config: ModelConfig): Record<string, unknown> {
  const isGated = config.feedForward === 'gated-gelu';
  return {
    architectures: ['T5ForConditionalGeneration'],
    classifier_dropout: 0,
    d_ff: config.dFf,
    d_kv: config.dKv,
    d_model: config.dModel,
    decoder_start_token_id: 0,
    dense_act_fn: isGated ? 'gelu_new' : 'relu',
    dropout_rate: 0.1, // for fine-tuning, as in the published checkpoints; pre-training uses none
    eos_token_id: 1,
    feed_forward_proj: config.feedForward,
    initializer_factor: 1,
    is_encoder_decoder: true,
    is_gated_act: isGated,
    layer_norm_epsilon: config.layerNormEpsilon,
    model_type: 't5',
    num_decoder_layers: config.numDecoderLayers,
    num_heads: config.numHeads,
    num_layers: config.numLayers,
    pad_token_id: 0,
    relative_attention_max_distance: config.relativeAttentionMaxDistance,
    relative_attention_num_buckets: config.relativeAttentionNumBuckets,
    scale_decoder_outputs: config.tieEmbeddings,
    tie_word_embeddings: config.tieEmbeddings,
    torch_dtype: 'float32',
    use_cache: true,
    vocab_size: config.vocabSize,
  };
}

function invalid(what: string, error: z.ZodError): TrainerError {
  return new TrainerError('CONFIG_INVALID', `${what}:\n${z.prettifyError(error)}`, { cause: error });
}
