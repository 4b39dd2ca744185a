/**
 * Predicts the time of a step from the speed of a few kernels and the shapes. Pure. It serves to judge a machine and a run and promises nothing:
 * a step is its matrix products at the measured rate, every tensor of the passes written and read at the rate of an addition, and the calls
 * of its operations.
 */
import type { ModelConfig } from '../../shared/model-config.ts';
import type { OptimizerKind } from '../../shared/optimizer.ts';
import { numElements, parameterSpecs } from './parameters.ts';
import { stepFlops } from './step-flops.ts';
import { activationElements, type Keeping, type StepShape } from './step-memory.ts';

/** Operations of a pass forward and backward, as tfjs counts them (tf.profile). */
const OPERATIONS = { model: 165, encoderBlock: 150, decoderBlock: 236, updateOfParameter: 25 } as const;
/** An operation inside a recorded graph: 3,900 tiny ones took 12 ms. */
const RECORDED_OPERATION_SECONDS = 3e-6;
/** Cost of the update of one element, in additions; measured on the wasm engine. */
const UPDATE_ADDITIONS: Readonly<Record<OptimizerKind, number>> = { adafactor: 6, adamw: 14, 'adamw-rms': 15 };

export interface Rates {
  /** Of matrix products in the model's shapes. */
  readonly flopsPerSecond: number;
  /** Of additions of two large float32 tensors. */
  readonly elementsPerSecond: number;
  /** Of one eager operation on a scalar, s. */
  readonly operationSeconds: number;
}

export interface StepPrediction {
  /** Forward and backward pass of one microbatch, ms. */
  readonly microbatchMs: number;
  /** One update of all parameters, ms. */
  readonly updateMs: number;
}

/** With retention 'eager' the engine calls every operation, with 'recorded' it runs a recorded graph. */
export function predictStep(
  config: ModelConfig,
  shape: StepShape,
  rates: Rates,
  { optimizer, retention }: Keeping,
): StepPrediction {
  const specs = parameterSpecs(config);
  const numParameters = specs.reduce((sum, { shape }) => sum + numElements(shape), 0);
  const perOperation = retention === 'recorded' ? RECORDED_OPERATION_SECONDS : rates.operationSeconds;
  const { model, encoderBlock, decoderBlock, updateOfParameter } = OPERATIONS;
  const numOperations = model + encoderBlock * config.numLayers + decoderBlock * config.numDecoderLayers;
  const passSeconds =
    stepFlops(config, shape) / rates.flopsPerSecond +
    activationElements(config, shape, 'eager') / rates.elementsPerSecond +
    numOperations * perOperation;
  const updateSeconds =
    (UPDATE_ADDITIONS[optimizer] * numParameters) / rates.elementsPerSecond +
    specs.length * updateOfParameter * perOperation;
  return { microbatchMs: 1000 * passSeconds, updateMs: 1000 * updateSeconds };
}
