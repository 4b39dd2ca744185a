/**
 * The parameters of a T5: Hugging Face names, shapes, initial standard deviations. Pure.
 * The order is that of the forward pass, so gradients are complete in the reverse order.
 * Matrices have PyTorch's orientation [out, in]. Aliases of a tied model (`lm_head.weight`, `*.embed_tokens.weight`) do not exist here.
 * Source: T5PreTrainedModel._init_weights and the state dict of transformers; optimize.py and layers of Mesh TensorFlow for the output layer.
 */
import type { ModelConfig } from '../../shared/model-config.ts';

/** How a parameter starts: all ones, or normal with mean 0. */
export type Initializer = { readonly kind: 'ones' } | { readonly kind: 'normal'; readonly standardDeviation: number };

export interface ParameterSpec {
  /** As in a Transformers state dict. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly initializer: Initializer;
}

/** All parameters of a model, in the order of the forward pass. */
export function parameterSpecs(config: ModelConfig): ParameterSpec[] {
  const { dModel, vocabSize } = config;
  const specs = [normal('shared.weight', [vocabSize, dModel], 1)];
  for (let i = 0; i < config.numLayers; i++) {
    const block = `encoder.block.${i}.layer`;
    specs.push(...attentionSpecs(config, `${block}.0`, 'SelfAttention', i === 0));
    specs.push(...feedForwardSpecs(config, `${block}.1`));
  }
  specs.push(ones('encoder.final_layer_norm.weight', dModel));
  for (let i = 0; i < config.numDecoderLayers; i++) {
    const block = `decoder.block.${i}.layer`;
    specs.push(...attentionSpecs(config, `${block}.0`, 'SelfAttention', i === 0));
    specs.push(...attentionSpecs(config, `${block}.1`, 'EncDecAttention', false));
    specs.push(...feedForwardSpecs(config, `${block}.2`));
  }
  specs.push(ones('decoder.final_layer_norm.weight', dModel));
  // Transformers starts an untied output layer with standard deviation 1, which puts the first logits near ±sqrt(dModel)
  // and the first loss far above ln(vocabSize). Mesh TensorFlow, which trained T5 v1.1 and ExT5, uses dModel^-0.5: so do we.
  if (!config.tieEmbeddings) specs.push(normal('lm_head.weight', [vocabSize, dModel], dModel ** -0.5));
  return specs;
}

export function numElements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

function attentionSpecs(config: ModelConfig, layer: string, kind: string, hasRelativeBias: boolean): ParameterSpec[] {
  const { dModel, dKv, numHeads } = config;
  const inner = numHeads * dKv;
  const name = `${layer}.${kind}`;
  const bias = normal(
    `${name}.relative_attention_bias.weight`,
    [config.relativeAttentionNumBuckets, numHeads],
    dModel ** -0.5,
  );
  return [
    ones(`${layer}.layer_norm.weight`, dModel),
    normal(`${name}.q.weight`, [inner, dModel], (dModel * dKv) ** -0.5), // 1/sqrt(dKv) of the attention logits lies here
    normal(`${name}.k.weight`, [inner, dModel], dModel ** -0.5),
    ...(hasRelativeBias ? [bias] : []),
    normal(`${name}.v.weight`, [inner, dModel], dModel ** -0.5),
    normal(`${name}.o.weight`, [dModel, inner], inner ** -0.5),
  ];
}

function feedForwardSpecs(config: ModelConfig, layer: string): ParameterSpec[] {
  const { dModel, dFf } = config;
  const name = `${layer}.DenseReluDense`;
  const inputs = config.feedForward === 'gated-gelu' ? ['wi_0', 'wi_1'] : ['wi'];
  return [
    ones(`${layer}.layer_norm.weight`, dModel),
    ...inputs.map((wi) => normal(`${name}.${wi}.weight`, [dFf, dModel], dModel ** -0.5)),
    normal(`${name}.wo.weight`, [dModel, dFf], dFf ** -0.5),
  ];
}

function ones(name: string, size: number): ParameterSpec {
  return { name, shape: [size], initializer: { kind: 'ones' } };
}

function normal(name: string, shape: readonly number[], standardDeviation: number): ParameterSpec {
  return { name, shape, initializer: { kind: 'normal', standardDeviation } };
}
