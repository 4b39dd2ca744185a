/** A kind of optimizer (adafactor.ts, adamw.ts) as tensors and numbers. */
import type { Scalar, Tensor } from '@tensorflow/tfjs';

/** The numbers that a step gives its update. */
export interface OptimizerUpdate {
  /** From 0. */
  readonly step: number;
  readonly learningRate: number;
  /** Turns the gradient of the summed loss into that of the mean, clipped: clip factor / target tokens of the step. */
  readonly gradientScale: number;
}

export interface Updated {
  readonly parameter: Tensor;
  /** In the order of slotSpecs. */
  readonly slots: readonly Tensor[];
}

/** One kind of optimizer. Numbers that change from step to step come as scalars, so that an engine may record the update once. */
export interface OptimizerRule<Name extends string> {
  readonly names: readonly Name[];
  numbers(update: OptimizerUpdate): Readonly<Record<Name, number>>;
  /** New tensors; the old ones stay the caller's. @param decays whether weight decay acts on the parameter */
  update(
    parameter: Tensor,
    gradientSum: Tensor,
    slots: readonly Tensor[],
    scalars: Readonly<Record<Name, Scalar>>,
    decays: boolean,
  ): Updated;
}
