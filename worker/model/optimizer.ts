/**
 * The optimizer of an engine: one rule chosen by the settings, its numbers of each step, and the update of one parameter. An engine knows no
 * rule. It holds the slots (optimizer-slots.ts), makes scalars of the numbers or feeds them to a recorded graph, and calls `update`.
 */
import type { Scalar, Tensor } from '@tensorflow/tfjs';
import { hasWeightDecay, type OptimizerSettings } from '../../shared/optimizer.ts';
import { adafactorRule } from './adafactor.ts';
import { adamwRule } from './adamw.ts';
import type { OptimizerRule, OptimizerUpdate, Updated } from './optimizer-rule.ts';
import { slotSpecs, type SlotSpec } from './optimizer-slots.ts';
import type { ParameterSpec } from './parameters.ts';

export interface Optimizer {
  /** Names of the numbers of an update. */
  readonly names: readonly string[];
  /** In the order of `names`. */
  numbers(update: OptimizerUpdate): readonly number[];
  slotSpecs(shape: readonly number[]): readonly SlotSpec[];
  /** Whether weight decay acts on a parameter. Parameters of one shape that agree in this have the same operations. */
  decays(parameter: Pick<ParameterSpec, 'name'>): boolean;
  /** New tensors; the old ones stay the caller's. @param scalars in the order of `names` */
  update(
    of: { readonly parameter: Tensor; readonly gradientSum: Tensor; readonly slots: readonly Tensor[] },
    scalars: readonly Scalar[],
    decays: boolean,
  ): Updated;
}

export function createOptimizer(settings: OptimizerSettings): Optimizer {
  return settings.kind === 'adafactor' ? fromRule(settings, adafactorRule) : fromRule(settings, adamwRule(settings));
}

function fromRule<Name extends string>(settings: OptimizerSettings, rule: OptimizerRule<Name>): Optimizer {
  const { names } = rule;
  const weightDecay = settings.kind === 'adafactor' ? 0 : settings.weightDecay;
  return {
    names,
    numbers: (update) => {
      const numbers = rule.numbers(update);
      return names.map((name) => numbers[name]);
    },
    slotSpecs: (shape) => slotSpecs(shape, settings.kind),
    decays: ({ name }) => weightDecay > 0 && hasWeightDecay(name),
    update: ({ parameter, gradientSum, slots }, scalars, decays) => {
      const named = Object.fromEntries(names.map((name, i) => [name, scalars[i]!])) as Record<Name, Scalar>;
      return rule.update(parameter, gradientSum, slots, named, decays);
    },
  };
}
