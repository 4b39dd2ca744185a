/**
 * AdamW and AdamW scaled by the parameter's size: decoupled weight decay, bias-corrected moments. g = gradient of the mean loss, t = step from 1.
 * Sources: Loshchilov & Hutter 2019; torch.optim.AdamW; AdamWScale of nanoT5 (nanoT5/utils/copied_utils.py).
 *
 *   m ← beta1·m + (1 − beta1)·g,   v ← beta2·v + (1 − beta2)·g²,   c1 = 1 − beta1^t,   c2 = 1 − beta2^t
 *   adamw:      p ← p·(1 − learningRate·weightDecay) − learningRate/c1 · m / (sqrt(v)/sqrt(c2) + epsilon)
 *   adamw-rms:  p ← (p − learningRate·sqrt(c2)/c1 · max(RMS(p), 1e-3) · m / (sqrt(v) + epsilon)) · (1 − learningRate·weightDecay)
 */
import * as tf from '@tensorflow/tfjs';
import type { Tensor } from '@tensorflow/tfjs';
import { DEFAULT_EPSILON, type AdamwSettings } from '../../shared/optimizer.ts';
import { fusedAdamw, fusesBlocks } from './fused-kernels.ts';
import { meanSquare } from './mean-square.ts';
import type { OptimizerRule, OptimizerUpdate, Updated } from './optimizer-rule.ts';

const LEAST_SIZE = 1e-3;

/** In the order of the fused kernel's inputs. */
const NAMES = [
  'stepSize',
  /** On sqrt(v). */
  'rootScale',
  'epsilon',
  /** 1 − learningRate·weightDecay */
  'keep',
  'momentum',
  'newMomentum',
  'decay',
  'newShare',
  'gradientScale',
] as const;
type Name = (typeof NAMES)[number];

export function adamwRule(settings: AdamwSettings): OptimizerRule<Name> {
  return {
    names: NAMES,
    numbers: (update) => adamwNumbers(settings, update),
    update: (parameter, gradientSum, slots, scalars, decays) => {
      const [m, v] = slots as [Tensor, Tensor];
      const isRelative = settings.kind === 'adamw-rms';
      if (fusesBlocks()) {
        const numbers = NAMES.map((name) => (name === 'keep' && !decays ? tf.scalar(1) : scalars[name]));
        const [updated, ...newSlots] = fusedAdamw(isRelative, [gradientSum, parameter, m, v, ...numbers]);
        return { parameter: updated!, slots: newSlots };
      }
      const keep = (values: Tensor) => (decays ? tf.mul(values, scalars.keep) : values);
      const gradient = tf.mul(gradientSum, scalars.gradientScale);
      const newM = tf.add(tf.mul(m, scalars.momentum), tf.mul(gradient, scalars.newMomentum));
      const newV = tf.add(tf.mul(v, scalars.decay), tf.mul(tf.square(gradient), scalars.newShare));
      const root = isRelative ? tf.sqrt(newV) : tf.mul(tf.sqrt(newV), scalars.rootScale);
      const direction = tf.div(newM, tf.add(root, scalars.epsilon));
      const slotsAfter: Updated['slots'] = [newM, newV];
      if (!isRelative)
        return { parameter: tf.sub(keep(parameter), tf.mul(direction, scalars.stepSize)), slots: slotsAfter };
      const size = tf.maximum(tf.sqrt(meanSquare(parameter)), LEAST_SIZE);
      const step = tf.mul(scalars.stepSize, size);
      return { parameter: keep(tf.sub(parameter, tf.mul(direction, step))), slots: slotsAfter };
    },
  };
}

function adamwNumbers(settings: AdamwSettings, update: OptimizerUpdate): Record<Name, number> {
  const { kind, beta1, beta2, weightDecay, epsilon = DEFAULT_EPSILON[kind] } = settings;
  const { step, learningRate, gradientScale } = update;
  const correction1 = 1 - beta1 ** (step + 1);
  const root2 = Math.sqrt(1 - beta2 ** (step + 1));
  const isRelative = kind === 'adamw-rms';
  return {
    stepSize: ((isRelative ? root2 : 1) * learningRate) / correction1,
    rootScale: isRelative ? 1 : 1 / root2,
    epsilon,
    keep: 1 - learningRate * weightDecay,
    momentum: beta1,
    newMomentum: 1 - beta1,
    decay: beta2,
    newShare: 1 - beta2,
    gradientScale,
  };
}
