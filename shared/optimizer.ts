/**
 * The optimizer of a run: its settings, and the clipping of the gradient's global norm. The rules of the updates are in worker/model.
 *
 *   adafactor   T5's Adafactor (mesh_tensorflow/optimize.py): no momentum, no weight decay
 *   adamw       torch.optim.AdamW
 *   adamw-rms   nanoT5's AdamWScale (nanoT5/utils/copied_utils.py): each update multiplied by max(1e-3, RMS of the parameter)
 */
import { z } from 'zod';
import { DECIDES_BITS, DECIDES_BITS_IF_SET } from './config/bits.ts';

const maxGradNorm = z
  .number()
  .positive()
  .optional()
  .describe("Clips the gradient: a larger L2 norm over all parameters is scaled to this. nanoT5's is 1.")
  .meta(DECIDES_BITS);

/** Of a moving average. */
const decayRate = z.number().min(0).lt(1);

const adamSettings = {
  beta1: decayRate.default(0.9).describe('AdamW: decay of the mean of gradients.').meta(DECIDES_BITS),
  beta2: decayRate.default(0.999).describe('AdamW: decay of the mean of their squares.').meta(DECIDES_BITS),
  epsilon: z
    .number()
    .positive()
    .optional()
    .describe('AdamW: added to the root of that mean; by default 1e-8 with adamw and 1e-6 with adamw-rms.')
    .meta(DECIDES_BITS),
  weightDecay: z
    .number()
    .min(0)
    .default(0)
    .describe('AdamW, decoupled: each step takes learning rate × weightDecay of a parameter; not of norms and biases.')
    .meta(DECIDES_BITS),
  maxGradNorm,
};

export const optimizerSchema = z
  .discriminatedUnion('kind', [
    z.strictObject({ kind: z.literal('adafactor').default('adafactor').meta(DECIDES_BITS_IF_SET), maxGradNorm }),
    z.strictObject({ kind: z.literal('adamw').meta(DECIDES_BITS_IF_SET), ...adamSettings }),
    z.strictObject({ kind: z.literal('adamw-rms').meta(DECIDES_BITS_IF_SET), ...adamSettings }),
  ])
  .prefault({ kind: 'adafactor' });

export type OptimizerSettings = z.output<typeof optimizerSchema>;
export type OptimizerKind = OptimizerSettings['kind'];
export type AdamwSettings = Exclude<OptimizerSettings, { kind: 'adafactor' }>;

/** T5's optimizer, without clipping. */
export const ADAFACTOR: OptimizerSettings = { kind: 'adafactor' };

/** PyTorch's default, and that of AdamWScale. */
export const DEFAULT_EPSILON: Readonly<Record<AdamwSettings['kind'], number>> = { adamw: 1e-8, 'adamw-rms': 1e-6 };

/** Keeps a norm of 0 from a division by it, as torch.nn.utils.clip_grad_norm_ does. */
const CLIP_EPSILON = 1e-6;

/**
 * Factor on the gradient, at most 1: torch.nn.utils.clip_grad_norm_. It depends on the norm of the whole step's mean gradient alone, so it is
 * the same for any number of workers.
 */
export function clipFactor({ maxGradNorm: largest }: Pick<OptimizerSettings, 'maxGradNorm'>, gradNorm: number): number {
  return largest === undefined ? 1 : Math.min(1, largest / (gradNorm + CLIP_EPSILON));
}

/** Parts of the names of parameters without weight decay. */
const WITHOUT_DECAY = ['bias', 'layer_norm'] as const;

/**
 * Whether weight decay acts on a parameter. T5's norms, biases and relative attention biases have none: the names that nanoT5
 * (nanoT5/utils/model_utils.py, get_optimizer) and Transformers' T5 pre-training (run_t5_mlm_flax.py) leave out, found as in nanoT5.
 * @param name that of Transformers
 */
export function hasWeightDecay(name: string): boolean {
  return !WITHOUT_DECAY.some((part) => name.includes(part));
}
