/**
 * The memory of a step and the microbatch that fits: an estimate from shapes alone. Pure. Everything is float32.
 *
 * Held between steps: parameters, optimizer state. During a step also a gradient for each parameter and the tensors of one microbatch,
 * counted in units of what one tensor of a kind holds (B, S, T, D, I, F, V as in step-flops.ts):
 *
 *     unit                        eager   recorded
 *     positions · D, a sublayer      13        6     norm, residual, input and gradient
 *     positions · I, an attention    26       10     q, k, v, context; split into heads and joined
 *     B · N · queries · keys         10        3     scores, mask, softmax
 *     positions · F                  20        8     both factors, gelu, product
 *     B · T · V                       7        3     logits, softmax, gradient
 *
 * Eager: every tensor of both passes stays until the pass is over; measured as tfjs's peak, one dimension changed at a time (the test
 * holds the sum to it). Recorded: a tensor is freed at its last use; what the backward pass reads, and one layer's work beside it.
 *
 * Dropout keeps no mask. Eager it adds the product of each site but the weights of attention, whose product is computed for both passes:
 * 1 unit of width for each sublayer, embedding and last norm, 2 of scores, 1 of feed-forward. Recorded, products replace the tensors that were
 * kept; beside them are the multiplied weights of one attention.
 */
import type { ModelConfig } from '../../shared/model-config.ts';
import type { OptimizerKind } from '../../shared/optimizer.ts';
import { optimizerSlots } from './optimizer-slots.ts';
import { numElements, parameterSpecs } from './parameters.ts';
import type { BatchShape } from './step-flops.ts';

const FLOAT_BYTES = 4;

/** How long an engine keeps the tensors of a pass. */
export type Retention = 'eager' | 'recorded';

/** What one step takes. */
export interface StepShape extends BatchShape {
  readonly hasDropout?: boolean;
}

interface Units {
  readonly width: number;
  readonly inner: number;
  readonly scores: number;
  readonly feedForward: number;
  readonly logits: number;
}

const UNITS: Readonly<Record<Retention, Units>> = {
  eager: { width: 13, inner: 26, scores: 10, feedForward: 20, logits: 7 },
  recorded: { width: 6, inner: 10, scores: 3, feedForward: 8, logits: 3 },
};

/** Elements of all tensors of one microbatch, forward and backward, that are held at the same time. */
export function activationElements(config: ModelConfig, shape: StepShape, retention: Retention): number {
  const { dModel, dKv, dFf, numHeads, numLayers, numDecoderLayers, vocabSize } = config;
  const { numRows, inputsLength, targetsLength } = shape;
  const units = UNITS[retention];
  const inner = numHeads * dKv;
  const attention = (queries: number, keys: number) =>
    units.width * queries * dModel +
    (units.inner / 2) * (queries + keys) * inner +
    units.scores * numHeads * queries * keys;
  const feedForward = (length: number) => units.width * length * dModel + units.feedForward * length * dFf;
  const encoder = attention(inputsLength, inputsLength) + feedForward(inputsLength);
  const decoder =
    attention(targetsLength, targetsLength) + attention(targetsLength, inputsLength) + feedForward(targetsLength);
  const logits = units.logits * targetsLength * vocabSize;
  const dropout = shape.hasDropout === true ? dropoutElements(config, shape, retention) : 0;
  return numRows * (numLayers * encoder + numDecoderLayers * decoder + logits + dropout);
}

/** Of one row. */
function dropoutElements(config: ModelConfig, shape: StepShape, retention: Retention): number {
  const { dModel, dFf, numHeads, numLayers, numDecoderLayers } = config;
  const { inputsLength, targetsLength } = shape;
  if (retention === 'recorded') return numHeads * Math.max(inputsLength, targetsLength) ** 2;
  const feedForward = (length: number) => length * (dModel + dFf);
  const attention = (queries: number, keys: number) => queries * dModel + 2 * numHeads * queries * keys;
  const encoder = attention(inputsLength, inputsLength) + feedForward(inputsLength);
  const decoder =
    attention(targetsLength, targetsLength) + attention(targetsLength, inputsLength) + feedForward(targetsLength);
  return numLayers * encoder + numDecoderLayers * decoder + 2 * (inputsLength + targetsLength) * dModel;
}

export interface StepMemory {
  readonly parameterBytes: number;
  readonly optimizerBytes: number;
  readonly gradientBytes: number;
  /** Of one microbatch. */
  readonly activationBytes: number;
  readonly totalBytes: number;
}

/** What keeps tensors: the optimizer's state between steps, the engine during one. */
export interface Keeping {
  readonly optimizer: OptimizerKind;
  readonly retention: Retention;
}

/** Memory of the engine's device at the peak of a step. */
export function stepMemory(config: ModelConfig, shape: StepShape, { optimizer, retention }: Keeping): StepMemory {
  const specs = parameterSpecs(config);
  const bytesOf = (tensors: readonly { readonly shape: readonly number[] }[]) =>
    FLOAT_BYTES * tensors.reduce((sum, tensor) => sum + numElements(tensor.shape), 0);
  const parameterBytes = bytesOf(specs);
  const optimizerBytes = bytesOf(optimizerSlots(specs, optimizer));
  const activationBytes = FLOAT_BYTES * activationElements(config, shape, retention);
  const gradientBytes = parameterBytes;
  const totalBytes = parameterBytes + optimizerBytes + gradientBytes + activationBytes;
  return { parameterBytes, optimizerBytes, gradientBytes, activationBytes, totalBytes };
}

/** Node, threads, code and libraries; measured on workers of a tiny model, wasm and native. */
const PROCESS_BYTES: Readonly<Record<Retention, number>> = { eager: 380 * 2 ** 20, recorded: 690 * 2 ** 20 };

/**
 * What a worker process takes: engine, lane partials (the fewest tree nodes that its lanes need at a time), and the snapshot of a checkpoint.
 * @param numLanes of this worker
 */
export function workerMemory(memory: StepMemory, numLanes: number, retention: Retention): number {
  const partials = 1 + Math.ceil(Math.log2(Math.max(1, numLanes)));
  const snapshotBytes = memory.parameterBytes + memory.optimizerBytes;
  return PROCESS_BYTES[retention] + memory.totalBytes + partials * memory.gradientBytes + snapshotBytes;
}

/**
 * The most rows of a microbatch whose step fits, a divisor of `rowsPerLane` so that the config takes it; 0 where not even one row does.
 * @param availableBytes what the engine may have on its device
 */
export function largestFittingMicrobatch(
  config: ModelConfig,
  shape: Omit<StepShape, 'numRows'>,
  {
    availableBytes,
    rowsPerLane,
    ...keeping
  }: Keeping & { readonly availableBytes: number; readonly rowsPerLane: number },
): number {
  for (let numRows = rowsPerLane; numRows >= 1; numRows--) {
    if (rowsPerLane % numRows !== 0) continue;
    if (stepMemory(config, { ...shape, numRows }, keeping).totalBytes <= availableBytes) return numRows;
  }
  return 0;
}

/** Advice after a step that did not fit, for the message of ENGINE_OUT_OF_MEMORY. */
export function adviseOnMemory(
  config: ModelConfig,
  shape: StepShape,
  { availableBytes, ...keeping }: Keeping & { readonly availableBytes: number },
): string {
  const { totalBytes, activationBytes } = stepMemory(config, shape, keeping);
  const facts = `the step needs about ${gib(totalBytes)} (${gib(activationBytes)} of it for ${shape.numRows} rows), ${gib(availableBytes)} can be had`;
  // It did not fit at this size, whatever the estimate says.
  const rows = largestFittingMicrobatch(config, shape, { availableBytes, rowsPerLane: shape.numRows, ...keeping });
  const fitting = rows === shape.numRows ? largestDivisorBelow(rows) : rows;
  if (fitting >= 1) return `${facts}; --set training.microbatchRows=${fitting} should fit (other bits, same batch)`;
  return `${facts}; not even one row fits: take a smaller model or preset, shorter featureLengths, or a device with more memory`;
}

/** 0 below 1. */
function largestDivisorBelow(value: number): number {
  for (let divisor = value - 1; divisor >= 1; divisor--) if (value % divisor === 0) return divisor;
  return 0;
}

function gib(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(bytes < 2 ** 30 ? 2 : 1)} GiB`;
}
